"""``vidreason.load()``: one object that perceives, answers, explains, predicts and chooses."""

import gc
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from tiny_shipped import write_tiny_reasoner

import vidreason
from vidreason import cli
from vidreason.evaluation.next_events.forecast_calibration import (
    CALIBRATION_FILE,
    ForecastCalibration,
    write_forecast_calibration,
)
from vidreason.example import Turn
from vidreason.microworld.shipped import sample_videos
from vidreason.model import DecodingConfig
from vidreason.perception.visual_tokens import collate_visual_tokens
from vidreason.pipeline import VideoPipeline, load
from vidreason.pretrained.identity import reasoner_identity
from vidreason.reasoning.prompts import multiple_choice_prompt, open_ended_prompt
from vidreason.reasoning.reasoner_config import FuturesConfig
from vidreason.video.reader import VideoReader, VideoReadError

OPTIONS = ("the red circle", "the blue square", "a wall")
SAMPLE = str(sample_videos()["hit"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pipeline") / "reasoner"
    write_tiny_reasoner(path)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, vidreason; assert 'torch' not in sys.modules; "
        "assert callable(vidreason.load); assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = vidreason.lode


def test_a_video_gives_the_same_tokens_in_any_form(model):
    reader = VideoReader(timeout_seconds=None)
    index = reader.index(SAMPLE)
    frames = reader.read_frames(index, list(range(len(index.timestamps))))
    fps = round(1 / (index.timestamps[1] - index.timestamps[0]))
    expected = model.perceive(SAMPLE)
    assert len(expected) > 4
    with open(SAMPLE, "rb") as file:
        of_bytes = model.perceive(file.read())
    for tokens in (of_bytes, model.perceive(frames, fps=fps)):
        torch.testing.assert_close(tokens.features, expected.features, rtol=0, atol=0)
        torch.testing.assert_close(tokens.boxes, expected.boxes, rtol=0, atol=0)
        torch.testing.assert_close(tokens.spans, expected.spans, rtol=0, atol=1e-3)


def test_a_video_is_perceived_once_unless_it_changes(folder, tmp_path, monkeypatch):
    model = load(folder)
    looks = []
    perceive = model.perceiver.perceive
    monkeypatch.setattr(
        model.perceiver, "perceive", lambda *span: looks.append(span) or perceive(*span)
    )
    path = tmp_path / "a.mp4"
    shutil.copy(SAMPLE, path)
    model.ask(path, "what entered first")
    model.explain(path)
    model.choose(path, "what is it", OPTIONS)
    assert len(looks) == 1
    model.perceive(path, start=1.0, end=4.0)
    assert len(looks) == 2
    os.utime(path, ns=(1, 1))
    model.perceive(path)
    assert len(looks) == 3


def test_an_answer_is_the_reasoners_with_its_likelihood_and_evidence(model):
    answer = model.ask(SAMPLE, "what entered first?")
    tokens = model.perceive(SAMPLE)
    prompt = open_ended_prompt("what entered first?")
    assert [answer.text] == model.reasoner.generate(collate_visual_tokens([tokens]), [prompt])
    # The first part is left out by hand.
    text = model.reasoner.encode_example(prompt, answer.text, 1000)
    kinds = tokens.kinds.tolist()
    first = next(
        part for part in answer.evidence if part.kind == "clip" and part.start_seconds == 0
    )
    without = tokens.select([row for row in range(len(kinds)) if row != 0])
    with torch.no_grad():
        sums, _ = model.reasoner.response_log_likelihoods(
            collate_visual_tokens([tokens, without]), [0, 1], [text, text]
        )
    assert answer.confidence == pytest.approx(sums[0].exp().item(), rel=1e-4)
    assert first.support == pytest.approx(float(sums[0] - sums[1]), abs=1e-4)
    supports = [part.support for part in answer.evidence]
    assert supports == sorted(supports, reverse=True)
    assert len(supports) == len({*tokens.track_ids.tolist()} - {-1}) + kinds.count(0)
    assert answer.tokens.visual == len(tokens)
    assert answer.tokens.embeddings == 4
    assert answer.tokens.prompt == len(model.reasoner.encode_prompt(prompt))
    assert answer.timings.answer_seconds > 0
    short = model.ask(SAMPLE, "what entered first?", decoding=DecodingConfig(max_new_tokens=1))
    assert short.warnings == ("the answer was cut at max_new_tokens=1",)
    assert "img" in answer._repr_html_()
    bare = model.ask(SAMPLE, "what entered first?", evidence=False)
    assert (bare.text, bare.evidence) == (answer.text, ())
    assert bare.confidence == pytest.approx(answer.confidence, rel=1e-4)


def test_a_choice_is_the_likeliest_option_by_the_token(model):
    choice = model.choose(SAMPLE, "what entered first?", OPTIONS)
    prompt = multiple_choice_prompt("what entered first?", OPTIONS)
    texts = [model.reasoner.encode_example(prompt, option, 1000) for option in OPTIONS]
    visual = collate_visual_tokens([model.perceive(SAMPLE)])
    with torch.no_grad():
        sums, counts = model.reasoner.response_log_likelihoods(visual, [0, 0, 0], texts)
    shares = (sums / counts).softmax(0).tolist()
    assert choice.probabilities == pytest.approx(shares, rel=1e-4)
    assert choice.index == shares.index(max(shares))
    assert (choice.text, choice.confidence) == (OPTIONS[choice.index], max(choice.probabilities))
    assert str(choice) == choice.text
    with pytest.raises(ValueError, match="2 to 26 options, found 1"):
        model.choose(SAMPLE, "what?", OPTIONS[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("red", r"options: expected a list of texts, found str; give two or more answers in a"),
        (b"red", r"options: expected a list of texts, found bytes"),
        ({"red", "blue"}, r"options: expected a list of texts, found set"),
        (None, r"options: expected a list of texts, found NoneType"),
        (["red", 3], r"options\[1\]: expected a text, found int; give"),
        (["red", " "], r"options\[1\]: found an empty text; give"),
        ([], r"2 to 26 options, found 0"),
    ],
)
def test_what_is_no_list_of_answers_is_refused_before_the_video_is_looked_at(
    model, options, message
):
    with pytest.raises(ValueError, match=message):
        model.choose("no_such_video.mp4", "what?", options)


def test_bytes_that_are_no_video_are_not_named_by_a_file_that_nobody_knows(model):
    with pytest.raises(VideoReadError, match=r"^cannot read video 'the given bytes': ") as caught:
        model.ask(b"no video", "what?")
    assert caught.value.cause == "not-a-video"
    with pytest.raises(VideoReadError, match=r"^cannot read video 'nowhere\.mp4': "):
        model.ask("nowhere.mp4", "what?")


def test_a_forecast_is_the_reasoners(model):
    decoding = DecodingConfig(max_new_tokens=12)
    forecast = model.predict(SAMPLE, num_events=2, decoding=decoding)
    tokens = model.perceive(SAMPLE)
    expected = model.reasoner.forecast(tokens, decoding.futures, 2)
    events = [item.future.event for item in forecast.forecasts.items]
    assert events == [item.future.event for item in expected.items]
    if events:
        assert forecast.confidence == forecast.forecasts.items[0].future.probability
        assert forecast.evidence == forecast.forecasts.items[0].evidence
    with pytest.raises(
        ValueError, match="method: expected one of beam, nucleus, greedy, found 'tea leaves'"
    ):
        model.predict(SAMPLE, method="tea leaves")
    for number in (0, -1):
        with pytest.raises(ValueError, match=f"num_events is {number}; it must be at least 1"):
            model.predict(SAMPLE, num_events=number)


def test_a_calibration_in_the_folder_makes_probabilities_those_of_validation_videos(
    folder, model, tmp_path
):
    calibrated = tmp_path / "reasoner"
    shutil.copytree(folder, calibrated)
    settings = FuturesConfig()
    calibration = ForecastCalibration(
        method=settings.method,
        num_candidates=settings.num_candidates,
        temperature=3.0,
        listed=0.9,
        covered=0.5,
        quantile=0.5,
        level=0.9,
        num_videos=40,
    )
    write_forecast_calibration(calibrated / CALIBRATION_FILE, calibration)
    decoding = DecodingConfig(max_new_tokens=12)
    plain = model.predict(SAMPLE, decoding=decoding)
    forecast = load(calibrated).predict(SAMPLE, decoding=decoding)
    events = [item.future.event for item in forecast.forecasts.items]
    assert events
    assert events == [item.future.event for item in plain.forecasts.items]
    futures = calibration.calibrated(plain.forecasts.futures)
    assert forecast.forecasts.futures == futures
    assert forecast.confidence == futures[0].probability != plain.confidence
    # As much as was found in validation, by how much more of its own expectation this covers.
    listed = 0.9 * plain.forecasts.covered_mass / 0.5
    assert 0 < listed < 1
    assert sum(future.probability for future in futures) == pytest.approx(listed)
    assert forecast.likely.events == calibration.likely(plain.forecasts.futures)
    assert forecast.likely.events[0] == events[0]
    assert (forecast.likely.level, forecast.likely.num_videos) == (0.9, 40)
    # Found in another way, they are others.
    assert plain.likely is load(calibrated).predict(SAMPLE, method="greedy").likely is None
    # One that names this reasoner is taken, and one of another is refused.
    named = replace(calibration, model=reasoner_identity(calibrated).model)
    write_forecast_calibration(calibrated / CALIBRATION_FILE, named)
    assert load(calibrated).calibration == named
    write_forecast_calibration(calibrated / CALIBRATION_FILE, replace(named, model="0" * 64))
    with pytest.raises(ValueError, match=r"futures\.json was fitted on another reasoner, 0{16}:"):
        load(calibrated)
    (calibrated / CALIBRATION_FILE).write_text("{}")
    with pytest.raises(ValueError, match=r"futures\.json is no calibration of futures: write"):
        load(calibrated)


def test_a_conversation_stands_in_the_next_prompt(model):
    chat = model.chat(SAMPLE)
    first = chat.ask("what entered first?")
    assert first.text == model.ask(SAMPLE, "what entered first?").text
    second = chat.ask("where did it go?")
    assert [question for question, _ in chat.turns] == ["what entered first?", "where did it go?"]
    alone = model.ask(SAMPLE, "where did it go?")
    said = len(model.reasoner.tokenizer.encode(first.text, add_special_tokens=False))
    assert second.tokens.prompt > alone.tokens.prompt + said
    # As in training: what was said are turns of the chat template.
    turns = (Turn("user", open_ended_prompt("what entered first?")), Turn("assistant", first.text))
    prompt = open_ended_prompt("where did it go?")
    assert second.tokens.prompt == len(model.reasoner.encode_prompt(prompt, turns))
    visual = collate_visual_tokens([model.perceive(SAMPLE)])
    ids = model.reasoner.generate_ids(visual, [prompt], earlier_turns=[turns])
    assert model.reasoner.decode(ids) == [second.text]
    text = model.reasoner.encode_example(prompt, second.text, 1000, turns)
    sums, _ = model.reasoner.response_log_likelihoods(visual, [0], [text])
    assert second.confidence == pytest.approx(sums.exp().tolist()[0], rel=1e-4)
    assert str(chat).startswith(f"> what entered first?\n{first}\n> where did it go?")


def test_a_question_has_to_leave_room_for_an_answer(model):
    """The microworld's language model reads 512 tokens; 4 embeddings and an answer are among them.

    The tiny reasoner answers in at most 4 tokens.
    """
    for call in (
        lambda text: model.ask(SAMPLE, text),
        lambda text: model.chat(SAMPLE).ask(text),
        lambda text: model.choose(SAMPLE, text, OPTIONS),
    ):
        with pytest.raises(ValueError, match=r"question: it has \d+ tokens, .* at most 507 beside"):
            call("ball " * 600)
    chat = model.chat(SAMPLE)
    chat.ask("ball " * 100, evidence=False)
    (warning,) = chat.ask("ball " * 100, evidence=False).warnings[-1:]
    assert warning.startswith("the conversation is longer than the 504 tokens")
    assert chat.turns[1][1].tokens.prompt <= 504


def test_a_conversation_on_the_terminal(model, monkeypatch, capsys):
    monkeypatch.setattr("vidreason.pipeline.load", lambda *_, **__: model)
    lines = "what entered first?\n\n \n" + "ball " * 600 + "\nwhere did it go?"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert cli.main(["chat", SAMPLE]) == 0
    chat = model.chat(SAMPLE)
    expected = [chat.ask(question).text for question in ("what entered first?", "where did it go?")]
    printed, said = capsys.readouterr()
    assert printed == "".join(f"{text}\n" for text in expected)
    assert "vidreason chat: question: it has " in said
    assert cli.main(["chat", "absent.mp4"]) == 1
    assert "absent.mp4" in capsys.readouterr().err


def test_mistakes_are_said_in_words(model, tmp_path):
    with pytest.raises(ValueError, match="question: found an empty text"):
        model.ask(SAMPLE, "  ")
    with pytest.raises(ValueError, match="question: found an empty text"):
        model.chat(SAMPLE).ask("")
    with pytest.raises(VideoReadError, match="absent"):
        model.ask(tmp_path / "absent.mp4", "what?")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(VideoReadError, match="broken"):
        model.explain(tmp_path / "broken.mp4")


def test_what_was_in_memory_is_removed_with_the_pipeline(folder):
    model = load(folder)
    with open(SAMPLE, "rb") as file:
        copy = model.ask(file.read(), "what?").media
    assert os.path.exists(copy)
    del model
    gc.collect()
    assert not os.path.exists(copy)


def test_ask_prints_what_the_pipeline_answers(model, folder, capsys):
    assert isinstance(model, VideoPipeline)
    assert cli.main(["ask", SAMPLE, "what entered first?", "--model", str(folder)]) == 0
    assert capsys.readouterr().out == f"{model.ask(SAMPLE, 'what entered first?')}\n"
    assert cli.main(["ask", SAMPLE, "--why", "--json", "--model", str(folder)]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["answer"] == model.explain(SAMPLE).text
    assert {"confidence", "evidence", "warnings", "steps"} < value.keys()
