"""Answering questions with the tiny reasoner: batches, options, controls, unreadable videos."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest
import torch

from vidreason.evaluation.benchmark import evaluate_examples, question_batches
from vidreason.evaluation.config import Control, EvaluationConfig
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.reasoner_answerer import load_examples, reasoner_answerer
from vidreason.example import Example, Turn, spread_examples
from vidreason.model import DecodingConfig, VideoReasoner
from vidreason.perception.visual_tokens import VisualTokens, collate_visual_tokens
from vidreason.reasoning.futures import Future
from vidreason.reasoning.prompts import (
    FUTURE_PREDICTION_PROMPT,
    multiple_choice_prompt,
    open_ended_prompt,
)
from vidreason.reasoning.text_batch import collate_texts
from vidreason.reasoning.tokenization import encode_example, encode_prompt
from vidreason.video.failures import UnreadableVideosError
from vidreason.video.reader import VideoReadError

MakeTokens = Callable[..., VisualTokens]
GREEDY = DecodingConfig(strategy="greedy", max_new_tokens=4)
OPTIONS = (("red", "a blue ball", "it"), ("yes", "no, never"))


class Source:
    """Tokens by the number in the file's name; counts how often it is asked."""

    def __init__(self, make: MakeTokens, broken: Sequence[int] = ()) -> None:
        self.make = make
        self.broken = broken
        self.calls: Counter[str] = Counter()

    def __call__(self, media: str, start: float | None, end: float | None) -> VisualTokens:
        self.calls[media] += 1
        number = int(media.removeprefix("/v/").removesuffix(".mp4"))
        if number in self.broken:
            raise VideoReadError(media, "truncated")
        return self.make(2, number % 3, seed=number)


def answers(
    reasoner: VideoReasoner,
    source: Source,
    examples: Sequence[Example],
    config: EvaluationConfig,
    control: Control = "none",
) -> list[BenchmarkPrediction]:
    answerer = reasoner_answerer(reasoner, source, examples, config, GREEDY, control)
    return evaluate_examples(answerer, examples, config)


def choice(video: int, number: int, right: int = 0) -> Example:
    options = OPTIONS[number % 2]
    return Example(
        id=f"nextqa:val:{video}_{number}",
        corpus="nextqa",
        media=f"/v/{video}.mp4",
        video_id=str(video),
        prompt=multiple_choice_prompt("what", options),
        response=options[right],
        options=options,
        answer_index=right,
    )


def open_ended(video: int) -> Example:
    return Example(
        id=f"activitynet_qa:val:{video}",
        corpus="activitynet_qa",
        media=f"/v/{video}.mp4",
        video_id=str(video),
        prompt=open_ended_prompt("is it"),
        response="yes",
        answers=("yes",),
    )


def prediction(video: int) -> Example:
    return replace(
        open_ended(video),
        id=f"causal_vid_instruct:test:{video}",
        corpus="causal_vid_instruct",
        prompt=FUTURE_PREDICTION_PROMPT,
        question_type="prediction",
    )


MIXED = [choice(2, 0), open_ended(1), choice(1, 1), choice(0, 0), choice(2, 1), open_ended(0)]


def test_rows_come_in_the_order_of_the_questions(
    tiny_reasoner: VideoReasoner, make_visual_tokens: MakeTokens
) -> None:
    source = Source(make_visual_tokens)
    rows = answers(tiny_reasoner, source, MIXED, EvaluationConfig(batch_size=2))
    assert [row.id for row in rows] == [example.id for example in MIXED]
    for row, example in zip(rows, MIXED, strict=True):
        assert (row.prompt, row.options) == (example.prompt, example.options)
        assert len(row.option_log_likelihoods) == len(example.options)
        assert row.correct is not None
        prompt = encode_prompt(tiny_reasoner.tokenizer, example.prompt)
        assert row.num_prompt_tokens == len(prompt)
        assert row.num_visual_tokens == tiny_reasoner.fusion.num_embeddings == 4
        assert (row.num_generated_tokens == 0) == bool(example.options)
        assert row.batch_seconds_share > 0
        if example.options:
            assert row.parsed == row.option_log_likelihoods.index(max(row.option_log_likelihoods))
        else:
            # The random model may also say nothing that is a word.
            assert row.parsed is None or row.parsed.split()


def test_an_options_score_is_its_log_likelihood_per_token(
    tiny_reasoner: VideoReasoner, make_visual_tokens: MakeTokens
) -> None:
    source = Source(make_visual_tokens)
    rows = answers(tiny_reasoner, source, MIXED, EvaluationConfig(batch_size=3))
    for row, example in zip(rows, MIXED, strict=True):
        tokens = source(example.media, None, None)
        for index, option in enumerate(example.options):
            text = encode_example(tiny_reasoner.tokenizer, example.prompt, option, 512)
            with torch.no_grad():
                result = tiny_reasoner.eval()(
                    collate_visual_tokens([tokens]), collate_texts([text])
                )
            assert len(result) == len(option) + 1  # one token a byte, and the end of turn
            expected = float(result.mean())
            assert row.option_log_likelihoods[index] == pytest.approx(expected, abs=1e-5)
            assert row.option_token_counts[index] == len(result)


def test_questions_of_a_conversation_have_the_turns_before_them(
    tiny_reasoner: VideoReasoner, make_visual_tokens: MakeTokens
) -> None:
    turns = (Turn("user", "who"), Turn("assistant", "a ball"))
    source = Source(make_visual_tokens)
    later = [
        replace(choice(1, 0), earlier_turns=turns),
        replace(open_ended(2), earlier_turns=turns),
    ]
    rows = answers(tiny_reasoner, source, [*later, open_ended(1)], EvaluationConfig(batch_size=3))
    for row, example in zip(rows, later, strict=False):
        # A reader of the row sees the conversation.
        assert (
            row.prompt
            == f"Earlier about this video:\nQuestion: who\nAnswer: a ball\n\n{example.prompt}"
        )
        prompt = encode_prompt(tiny_reasoner.tokenizer, example.prompt, None, turns)
        assert row.num_prompt_tokens == len(prompt)
    tokenizer, tokens = tiny_reasoner.tokenizer, source("/v/1.mp4", None, None)
    for index, option in enumerate(later[0].options):
        text = encode_example(tokenizer, later[0].prompt, option, 512, None, turns)
        with torch.no_grad():
            result = tiny_reasoner.eval()(collate_visual_tokens([tokens]), collate_texts([text]))
        expected = float(result.mean())
        assert rows[0].option_log_likelihoods[index] == pytest.approx(expected, abs=1e-5)
    visual = collate_visual_tokens([source("/v/2.mp4", None, None)])
    (ids,) = tiny_reasoner.generate_ids(visual, [later[1].prompt], GREEDY, [turns])
    assert tiny_reasoner.decode([ids]) == [rows[1].output]


def test_predictions_come_with_computed_futures(
    tiny_reasoner: VideoReasoner, make_visual_tokens: MakeTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    predict_futures = VideoReasoner.predict_futures

    def watched(*arguments: Any) -> list[tuple[Future, ...]]:
        predict_futures(*arguments)
        number = len(arguments[1]["mask"])
        calls.append((number, arguments[2]))
        return [(Future(f"{n} falls", -1.0, 1.0),) for n in range(number)]

    monkeypatch.setattr(VideoReasoner, "predict_futures", watched)
    questions = [prediction(0), prediction(1), open_ended(1), prediction(2), prediction(9)]
    source = Source(make_visual_tokens, broken=[9])
    config = EvaluationConfig(batch_size=8, max_unreadable_fraction=0.5)
    rows = answers(tiny_reasoner, source, questions, config)
    assert calls == [(3, GREEDY.futures)]
    events = [[future.event for future in row.futures] for row in rows]
    # The order in a batch is that of the prompts' lengths.
    assert sorted(events) == [[], [], ["0 falls"], ["1 falls"], ["2 falls"]]
    assert events[2] == events[4] == []
    # The text is the greedy one, as for any other question.
    monkeypatch.undo()
    alone = answers(tiny_reasoner, source, [prediction(0)], config)
    assert alone[0].output == rows[0].output


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_the_batch_size_changes_nothing(
    tiny_reasoner: VideoReasoner, make_visual_tokens: MakeTokens, batch_size: int
) -> None:
    source = Source(make_visual_tokens)
    first = answers(tiny_reasoner, source, MIXED, EvaluationConfig(batch_size=2))
    other = answers(tiny_reasoner, source, MIXED, EvaluationConfig(batch_size=batch_size))
    for row, again in zip(first, other, strict=True):
        assert again.option_log_likelihoods == pytest.approx(row.option_log_likelihoods, abs=1e-5)
        assert (again.parsed, again.output) == (row.parsed, row.output)


def test_blind_answers_do_not_depend_on_the_video(
    tiny_reasoner: VideoReasoner, make_visual_tokens: MakeTokens
) -> None:
    source = Source(make_visual_tokens)
    questions = [choice(video, 0) for video in range(4)]

    def scores(control: Control) -> list[tuple[float, ...]]:
        config = EvaluationConfig(batch_size=4)
        rows = answers(tiny_reasoner, source, questions, config, control)
        return [row.option_log_likelihoods for row in rows]

    one, blind, shuffled = scores("none"), scores("blind"), scores("shuffled")
    assert len(set(one)) == 4
    for row in blind:
        assert row == pytest.approx(blind[0], abs=1e-6)
    # Another video's tokens: the same rows, none in its own place.
    for row, other in zip(one, shuffled, strict=True):
        assert other != pytest.approx(row, abs=1e-4)
    assert [sum(r) for r in sorted(shuffled)] == pytest.approx(
        [sum(r) for r in sorted(one)], abs=1e-4
    )


def test_generated_letters(
    tiny_reasoner: VideoReasoner,
    make_visual_tokens: MakeTokens,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs = iter([["(B)", "no idea"], ["it"]])

    def generate_ids(reasoner: VideoReasoner, *_: object) -> list[list[int]]:
        return [reasoner.tokenizer.encode(a, add_special_tokens=False) for a in next(outputs)]

    monkeypatch.setattr(VideoReasoner, "generate_ids", generate_ids)
    questions = [choice(0, 0, right=1), choice(1, 0), choice(2, 0, right=2)]
    config = EvaluationConfig(multiple_choice="generate", batch_size=2)
    rows = answers(tiny_reasoner, Source(make_visual_tokens), questions, config)
    assert [row.output for row in rows] == ["(B)", "no idea", "it"]
    assert [row.parsed for row in rows] == [1, None, 2]
    assert [row.correct for row in rows] == [True, False, True]
    assert [row.num_generated_tokens for row in rows] == [3, 7, 2]  # one a byte


def test_unreadable_videos_count_as_wrong_within_a_budget(
    tiny_reasoner: VideoReasoner, make_visual_tokens: MakeTokens
) -> None:
    source = Source(make_visual_tokens, broken=[1])
    config = EvaluationConfig(batch_size=2, max_unreadable_fraction=0.4)
    rows = answers(tiny_reasoner, source, MIXED, config)
    errors = {row.video_id for row in rows if row.error}
    assert errors == {"1"}
    assert all(row.correct is False and row.parsed is None for row in rows if row.error)
    assert rows[1].error == "cannot read video '/v/1.mp4': truncated"
    with pytest.raises(UnreadableVideosError, match="1 x truncated") as error:
        answers(tiny_reasoner, source, MIXED, EvaluationConfig(batch_size=1))
    assert "(evaluation.max_unreadable_fraction = 0.0)" in str(error.value)
    assert str(error.value).endswith("or raise evaluation.max_unreadable_fraction")


def test_modes_gradients_and_random_state_are_left_as_they_were(
    tiny_reasoner: VideoReasoner, make_visual_tokens: MakeTokens
) -> None:
    tiny_reasoner.train()
    modes = {name: module.training for name, module in tiny_reasoner.named_modules()}
    assert len(set(modes.values())) == 2  # the frozen language model is in eval mode
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    source = Source(make_visual_tokens)
    rows = answers(tiny_reasoner, source, MIXED, EvaluationConfig())
    assert {name: module.training for name, module in tiny_reasoner.named_modules()} == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.is_grad_enabled()
    tiny_reasoner.eval()
    assert answers(tiny_reasoner, source, MIXED, EvaluationConfig()) == rows


def test_a_video_is_loaded_once_a_batch(make_visual_tokens: MakeTokens) -> None:
    source = Source(make_visual_tokens, broken=[1])
    questions = [choice(0, 0), choice(0, 1), choice(1, 0), choice(1, 1), choice(0, 0)]
    questions[-1] = replace(questions[-1], id="span", start_seconds=1.0)
    loaded = load_examples(source, questions)
    assert source.calls == {"/v/0.mp4": 2, "/v/1.mp4": 1}  # the span is another request
    assert loaded[0].tokens is loaded[1].tokens
    assert [bool(item.error) for item in loaded] == [False, False, True, True, False]


def test_batches_hold_one_kind_and_keep_videos_together() -> None:
    batches = question_batches(MIXED, 3)
    assert sorted(e.id for batch in batches for e in batch) == sorted(e.id for e in MIXED)
    assert [len(batch) for batch in batches] == [2, 3, 1]
    assert all(len({bool(example.options) for example in batch}) == 1 for batch in batches)
    media = [example.media for batch in batches[1:] for example in batch]
    assert len(list(groupby(media))) == len(set(media)) == 3
    assert question_batches(MIXED[::-1], 3) == batches


def test_batches_hold_prompts_of_similar_lengths() -> None:
    def questions(video: int, length: int) -> Example:
        return replace(open_ended(video), id=f"{video}-{length}", prompt="x" * length)

    # Two questions about each of five videos: next to each other, and a video's longer one next to
    # another video's longer one.
    examples = [questions(video, 10 * video + more) for video in range(5) for more in (1, 6)]
    batches = question_batches(examples, 3)
    lengths = [[len(example.prompt) for example in batch] for batch in batches]
    assert lengths == [[46, 41, 31], [36, 26, 21], [11, 16, 6], [1]]
    # Spans of one video are as different as videos are.
    spans = [replace(e, id=f"{e.id} late", start_seconds=1.0) for e in examples]
    result = [e for batch in question_batches(examples + spans, 3) for e in batch]
    assert len(list(groupby((e.media, e.start_seconds) for e in result))) == 10


def test_a_limit_spreads_over_each_benchmark() -> None:
    questions = [choice(video, 0) for video in range(10)] + [
        open_ended(video) for video in range(3)
    ]
    chosen = spread_examples(questions, 4)
    assert [e.video_id for e in chosen] == ["0", "2", "5", "7", "0", "1", "2"]
    assert spread_examples(questions, None) == questions
    parted = [replace(choice(video, 0), group_id=str(video // 3)) for video in range(9)]
    assert [e.video_id for e in spread_examples(parted, 2)] == ["0", "1", "2", "3", "4", "5"]


def test_errors(tiny_reasoner: VideoReasoner, make_visual_tokens: MakeTokens) -> None:
    source = Source(make_visual_tokens)
    with pytest.raises(ValueError, match="two predictions for 'nextqa:val:2_0'"):
        answers(tiny_reasoner, source, [MIXED[0], MIXED[0]], EvaluationConfig())
    for name, value in (
        ("batch_size", 0),
        ("max_text_tokens", 0),
        ("every_n_steps", -1),
        ("limit", 0),
        ("max_unreadable_fraction", -0.1),
    ):
        with pytest.raises(ValueError, match=f"evaluation.{name} is {value}"):
            EvaluationConfig(**{name: value})
