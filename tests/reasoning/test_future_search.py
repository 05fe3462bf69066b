"""Next events of tiny random models against brute force, and from models that write nonsense."""

import itertools
import math

import pytest
import torch
from transformers import Gemma3TextConfig, GPT2Config, MambaConfig

from tests.reasoning.tiny_models import SIZES, random_reasoner
from vidreason.perception.visual_tokens import OBJECT_TOKEN, collate_visual_tokens
from vidreason.reasoning import future_search
from vidreason.reasoning.decoding import generate_lines
from vidreason.reasoning.evidence import parts_left_out
from vidreason.reasoning.future_search import Forecasts
from vidreason.reasoning.futures import (
    EVENT_SECONDS,
    covered_mass,
    event_time_answer,
    event_time_question,
)
from vidreason.reasoning.language_model import causal_lm
from vidreason.reasoning.line_search import line_end_ids
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT, open_ended_prompt
from vidreason.reasoning.reasoner_config import FuturesConfig
from vidreason.reasoning.text_batch import collate_texts

MAX_TOKENS = 4
"""Longest line here, its end included: 14 events of the letters a and b."""
EVENTS = ["".join(letters) for n in (1, 2, 3) for letters in itertools.product("ab", repeat=n)]
ALL = FuturesConfig(num_candidates=40)
KINDS = {
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}),
    # Its attention cannot share prefixes: the window is too short.
    "gemma3": (Gemma3TextConfig, SIZES | {"head_dim": 8, "sliding_window": 20}),
    # It has states, and no cache of keys and values.
    "mamba": (MambaConfig, {"hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.2}),
}


@pytest.fixture(autouse=True)
def short_lines(monkeypatch):
    monkeypatch.setattr(future_search, "MAX_EVENT_TOKENS", MAX_TOKENS)


@pytest.fixture
def videos(make_visual_tokens):
    return [make_visual_tokens(4, 3), make_visual_tokens(2, 0, 1), make_visual_tokens(0, 0, 2)]


@pytest.fixture
def reasoner(tiny_reasoner):
    return says_only(tiny_reasoner.eval(), "ab\n")


@pytest.fixture
def talker(tiny_reasoner):
    """A reasoner that can answer with times, too."""
    return says_only(tiny_reasoner.eval(), "ab\n.0123456789", stop=True)


def says_only(reasoner, characters, stop=False):
    """Make all tokens but some impossible."""
    tokens = [
        token
        for character in characters
        for token in reasoner.tokenizer(character, add_special_tokens=False)["input_ids"]
    ]
    model = causal_lm(reasoner.language_model)
    allowed = torch.full((model.get_output_embeddings().weight.shape[0],), -math.inf)
    allowed[tokens + (reasoner.stop_ids if stop else [])] = 0.0
    model.get_output_embeddings().register_forward_hook(lambda m, i, output: output + allowed)
    return reasoner


@torch.no_grad()
def brute_force(reasoner, tokens, prompt, response):
    """Log-likelihood of each token of a response, with a row of its own."""
    text = reasoner.encode_example(prompt, response, 10_000)
    return reasoner(collate_visual_tokens([tokens]), collate_texts([text]))


def event_log_likelihood(reasoner, tokens, event):
    # One token a byte: "1. " is given, the event and the line's end are scored.
    response = f"1. {event}\nx"
    values = brute_force(reasoner, tokens, FUTURE_PREDICTION_PROMPT, response)
    return float(values[len("1. ") : len(f"1. {event}\n")].double().sum())


@pytest.mark.parametrize("kind", ["llama", *KINDS])
def test_probabilities_are_those_of_brute_force(kind, request, tmp_path, tiny_tokenizer, videos):
    if kind == "llama":
        reasoner = request.getfixturevalue("reasoner")
    else:
        reasoner = random_reasoner(tmp_path, tiny_tokenizer, KINDS[kind]).eval()
        says_only(reasoner, "ab\n")
    predicted = reasoner.predict_futures(collate_visual_tokens(videos), ALL)
    for tokens, futures in zip(videos, predicted, strict=True):
        expected = {event: event_log_likelihood(reasoner, tokens, event) for event in EVENTS}
        # A beam that is wide enough finds all lines, the likeliest first.
        assert {future.event for future in futures} == set(EVENTS)
        actual = {future.event: future.log_likelihood for future in futures}
        assert actual == pytest.approx(expected, abs=1e-4)
        mass = sum(map(math.exp, expected.values()))
        assert covered_mass(futures) == pytest.approx(mass, abs=1e-5)
        shares = {event: math.exp(value) / mass for event, value in expected.items()}
        assert {f.event: f.probability for f in futures} == pytest.approx(shares, abs=1e-5)
        assert sum(future.probability for future in futures) == pytest.approx(1)
        ordered = [future.probability for future in futures]
        assert ordered == sorted(ordered, reverse=True)
    if kind != "gemma3":  # which does not look as far back as the video is
        assert predicted[0][0].log_likelihood != predicted[1][0].log_likelihood


def test_a_narrow_beam_finds_the_likeliest_lines(reasoner, videos):
    visual = collate_visual_tokens(videos)
    for all_of, some in zip(
        reasoner.predict_futures(visual, ALL),
        # One place is for the empty line; no more than 8 hypotheses of this world go on.
        reasoner.predict_futures(visual, FuturesConfig(num_candidates=8)),
        strict=True,
    ):
        events = [future.event for future in some]
        assert events == [future.event for future in all_of][: len(events)]
        assert len(events) >= 7


@pytest.mark.parametrize("method", ["beam", "nucleus", "greedy"])
def test_a_video_has_the_same_futures_whoever_is_beside_it(talker, videos, method):
    config = FuturesConfig(method=method, num_candidates=6)
    together = talker.predict_futures(collate_visual_tokens(videos), config, num_described=2)
    for tokens, futures in zip(videos, together, strict=True):
        visual = collate_visual_tokens([tokens])
        (alone,) = talker.predict_futures(visual, config, num_described=2)
        assert [future.event for future in futures] == [future.event for future in alone]
        for one, other in zip(futures, alone, strict=True):
            assert one.justification == other.justification
            assert (one.seconds is None) == (other.seconds is None)
            numbers = [(f.log_likelihood, f.probability, f.seconds or 0.0) for f in (one, other)]
            assert numbers[0] == pytest.approx(numbers[1], abs=1e-4)


def test_the_greedy_candidate_is_the_line_of_the_greedy_answer(reasoner, videos):
    predicted = reasoner.predict_futures(
        collate_visual_tokens(videos), FuturesConfig(method="greedy")
    )
    for tokens, futures in zip(videos, predicted, strict=True):
        line = ""
        while len(line) < MAX_TOKENS and not line.endswith("\n"):
            next_of = {
                letter: float(
                    brute_force(reasoner, tokens, FUTURE_PREDICTION_PROMPT, f"1. {line}{letter}x")[
                        len("1. ") + len(line)
                    ]
                )
                for letter in "ab"
            }
            end = brute_force(reasoner, tokens, FUTURE_PREDICTION_PROMPT, f"1. {line}\nx")
            next_of["\n"] = float(end[len("1. ") + len(line)])
            line += max(next_of, key=next_of.__getitem__)
        # An empty line, or one that does not end, is no event.
        event = line.strip() if line.endswith("\n") else ""
        assert [(f.event, f.probability) for f in futures] == ([(event, 1.0)] if event else [])


def test_drawn_candidates_come_from_the_nucleus_and_leave_the_random_state(reasoner, videos):
    visual = collate_visual_tokens(videos)
    config = FuturesConfig(method="nucleus", num_candidates=30)
    state = torch.get_rng_state()
    predicted = reasoner.predict_futures(visual, config)
    assert torch.equal(torch.get_rng_state(), state)
    assert reasoner.predict_futures(visual, config) == predicted
    scores = [{f.event: f for f in futures} for futures in reasoner.predict_futures(visual, ALL)]
    for futures, known in zip(predicted, scores, strict=True):
        assert len(futures) > 1
        for future in futures:
            expected = known[future.event].log_likelihood
            assert future.log_likelihood == pytest.approx(expected, abs=1e-4)


def test_expected_times_are_means_by_likelihood(talker, videos):
    (futures,) = talker.predict_futures(collate_visual_tokens(videos[:1]), ALL, 2)
    for future in futures[:2]:
        prompt = open_ended_prompt(event_time_question(future.event))
        weights = [
            math.exp(float(brute_force(talker, videos[0], prompt, answer).double().sum()))
            for answer in map(event_time_answer, EVENT_SECONDS)
        ]
        mean = sum(w * s for w, s in zip(weights, EVENT_SECONDS, strict=True)) / sum(weights)
        assert future.seconds == pytest.approx(mean, abs=1e-4)
    assert futures[2].seconds is None
    assert futures[2].justification == ""


def test_nothing_happens_at_no_time(tiny_reasoner, videos, monkeypatch):
    candidates = [["it falls", "Nothing happens."]]
    monkeypatch.setattr(future_search.FutureSearch, "candidates", lambda *_: candidates)
    (futures,) = tiny_reasoner.eval().predict_futures(collate_visual_tokens(videos[:1]), ALL, 2)
    seconds = {future.event: future.seconds for future in futures}
    assert seconds["Nothing happens."] is None
    assert EVENT_SECONDS[0] <= seconds["it falls"] <= EVENT_SECONDS[-1]


def test_justifications_and_confidences_come_from_what_is_written_below_the_event(
    reasoner, videos, monkeypatch
):
    below = {
        "Justification: it rolls\nConfidence: 0.8\n2. no": ("it rolls", 0.8),
        "Confidence: 0.25\n2. it stops": ("", 0.25),
        "Justification: it rolls\n2. it stops": ("it rolls", None),
        "\n\n": ("", None),
        "Confidence: very": ("", None),
    }
    for text, (justification, confidence) in below.items():
        monkeypatch.setattr(
            future_search,
            "generate_lines",
            lambda model, inputs, *_, text=text: (
                [reasoner.tokenizer(text, add_special_tokens=False)["input_ids"]] * len(inputs)
            ),
        )
        for forecast in reasoner.forecast(videos[0], ALL).items:
            assert forecast.future.justification == justification
            assert forecast.confidence == confidence


def test_words_below_an_event_end_after_two_lines(talker, videos):
    model, tokenizer = causal_lm(talker.language_model), talker.tokenizer
    video = talker.fusion(collate_visual_tokens(videos))
    mask = torch.ones(video.shape[:2], dtype=torch.int64)
    ends, stops = line_end_ids(tokenizer), talker.stop_ids
    assert tokenizer.batch_decode([[end] for end in ends]) == ["\n"]
    (one, two) = (generate_lines(model, video, mask, n, 60, ends, stops) for n in (1, 2))
    for first, both in zip(one, two, strict=True):
        assert both[: len(first)] == first
        assert sum(token in ends for token in first) <= 1
        assert sum(token in ends for token in both) <= 2


@pytest.mark.parametrize(
    ("characters", "stop"), [("\n", False), ("a", False), ("a", True), (".\n", False), ("", True)]
)
def test_models_without_a_line_that_says_something_have_no_futures(
    tiny_reasoner, videos, characters, stop
):
    reasoner = says_only(tiny_reasoner.eval(), characters, stop=stop)
    for method in ("beam", "nucleus", "greedy"):
        config = FuturesConfig(method=method, num_candidates=5)
        assert reasoner.predict_futures(collate_visual_tokens(videos), config, 2) == [()] * 3
        assert reasoner.forecast(videos[0], config) == Forecasts((), (), 0.0)


def test_nonsense_and_numbers_that_are_none_end_in_no_error(tiny_reasoner, videos, monkeypatch):
    # All bytes, most of them no text; then not a number.
    visual = collate_visual_tokens(videos)
    reasoner = tiny_reasoner.eval()
    monkeypatch.setattr(future_search, "MAX_EVENT_TOKENS", 12)
    for futures in reasoner.predict_futures(visual, FuturesConfig(num_candidates=64), 1):
        assert all("\ufffd" not in future.event for future in futures)
    head = causal_lm(reasoner.language_model).get_output_embeddings()
    head.register_forward_hook(lambda m, i, output: output * math.nan)
    for method in ("beam", "nucleus", "greedy"):
        config = FuturesConfig(method=method, num_candidates=5)
        assert reasoner.predict_futures(visual, config, 2) == [()] * 3


def test_support_is_what_an_event_loses_without_a_part(reasoner, videos):
    tokens = videos[0]
    tracks = tokens.track_ids.clone()
    tracks[-1] = tracks[-2]  # the last object was seen twice
    tokens = type(tokens)(**(vars(tokens) | {"track_ids": tracks}))
    parts, without = parts_left_out(tokens)
    assert [(part.kind, part.track_id) for part in parts] == [
        *[("clip", None)] * 4,
        *[("track", 0), ("track", 1)],
    ]
    assert [len(rest) for rest in without] == [*[len(tokens) - 1] * 5, len(tokens) - 2]
    seen = tokens.spans[tokens.track_ids == 1]
    assert parts[-1].start_seconds == pytest.approx(float(seen.min()))
    assert parts[-1].end_seconds == pytest.approx(float(seen.max()))
    assert (parts[0].start_seconds, parts[0].end_seconds) == (0.0, 2.0)
    assert not ((without[-1].kinds == OBJECT_TOKEN) & (without[-1].track_ids == 1)).any()

    forecasts, events, mass = reasoner.forecast(tokens, ALL, num_events=2)
    assert (len(forecasts), len(events)) == (2, len(EVENTS))
    (futures,) = reasoner.predict_futures(collate_visual_tokens([tokens]), ALL)
    assert mass == pytest.approx(covered_mass(futures))
    for forecast in forecasts:
        event = forecast.future.event
        whole = event_log_likelihood(reasoner, tokens, event)
        assert forecast.future.log_likelihood == pytest.approx(whole, abs=1e-4)
        expected = {
            part._replace(support=0.0): whole - event_log_likelihood(reasoner, rest, event)
            for part, rest in zip(parts, without, strict=True)
        }
        actual = {part._replace(support=0.0): part.support for part in forecast.evidence}
        assert actual == pytest.approx(expected, abs=1e-4)
        supports = [part.support for part in forecast.evidence]
        assert supports == sorted(supports, reverse=True)
        assert max(map(abs, supports)) > 1e-3


def test_a_video_without_tokens_has_futures_and_no_evidence(reasoner, videos):
    for forecast in reasoner.forecast(videos[0].without_tokens(), ALL).items:
        assert forecast.evidence == ()


def test_a_video_is_fused_once(reasoner, videos):
    fused = []
    reasoner.fusion.register_forward_pre_hook(lambda m, args: fused.append(len(args[0]["mask"])))
    reasoner.predict_futures(collate_visual_tokens(videos), ALL, num_described=3)
    assert fused == [3]
    reasoner.forecast(videos[0], ALL)
    assert fused == [3, 1 + 7]


def test_ranges_are_checked():
    message = r"decoding\.futures\.num_candidates is 0; .*decoding\.futures\.temperature"
    with pytest.raises(ValueError, match=message):
        FuturesConfig(num_candidates=0, temperature=0.0)
