"""Endpoints as baselines, against a server on this machine that may be slow, broken or hostile."""

import base64
import io
import json
import logging
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from blind_frames import no_frames
from loopback import KEY, ByRequest, http, reply
from PIL import Image

from vidreason.baselines import frame_messages
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.encoded_frames import mp4
from vidreason.baselines.endpoint import MAX_OUTPUT_CHARS, MAX_REFUSED_AT_FIRST, Endpoint
from vidreason.baselines.frames import Frames
from vidreason.baselines.system import SystemAnswerer
from vidreason.endpoints import messages as endpoint_messages
from vidreason.endpoints import transport
from vidreason.endpoints.config import EndpointConfig
from vidreason.endpoints.errors import (
    BudgetSpentError,
    EndpointRefusedError,
    EndpointUnavailableError,
)
from vidreason.errors import ReportedError
from vidreason.evaluation.answerer import Reply
from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.provenance import Provenance
from vidreason.example import Example, Turn
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT, multiple_choice_prompt
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.reader import DIRECT

COLOURS = ((250, 0, 0), (0, 250, 0), (0, 0, 250))


@pytest.fixture
def load(server, tmp_path):
    """``load(decoding=..., max_attempts=2, **fields of the configuration)``."""

    def make(decoding=None, max_attempts=2, **fields):
        config = BaselineConfig(
            kind="endpoint",
            weights={"model": "m"},
            replies=str(tmp_path / "replies.sqlite"),
            endpoint=EndpointConfig(
                base_url=server.url, api_key_variable="TEST_KEY", max_attempts=max_attempts
            ),
            **fields,
        )
        return Endpoint.load(config, decoding or DecodingConfig(), torch.device("cpu"))

    return make


def video(height=32, width=48) -> Frames:
    """Three frames of one colour each, of 4 seconds."""
    pixels = torch.tensor(COLOURS, dtype=torch.uint8)[:, :, None, None].repeat(1, 1, height, width)
    return Frames(pixels, (0.5, 2.0, 3.5), (10, 50, 90), 100, 4.0)


def question(number=0, **fields) -> Example:
    values = {"id": f"q{number}", "prompt": f"What is {number}? Answer briefly."} | fields
    return Example(corpus="nextqa", media="m.mp4", video_id="v", response="", **values)


def choice(number=0) -> Example:
    options = ("a ball", "a cat")
    prompt = multiple_choice_prompt(f"What is {number}?", options)
    return question(number, prompt=prompt, options=options, answer_index=1)


def questions(count) -> tuple[list[Frames], list[Example]]:
    return [video()] * count, [question(number) for number in range(count)]


def content_of(request):
    (message,) = request.body["messages"]
    assert message["role"] == "user"
    return message["content"]


def prompt_of(request) -> str:
    content = content_of(request)
    return content if isinstance(content, str) else content[-1]["text"]


def picture(part) -> Image.Image:
    kind, data = part["image_url"]["url"].split(",", 1)
    assert kind == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert image.format == "JPEG"
    return image


def usage(text, prompt, generated) -> bytes:
    counts = {"prompt_tokens": prompt, "completion_tokens": generated}
    return http(200, {"choices": [{"message": {"content": text}}], "usage": counts})


def test_frames_are_sent_as_pictures_in_order_each_with_its_time(server, load):
    server.script(usage("A ball.", 321, 4))
    replies = load().answer([video()], [question()])
    assert replies == [Reply(output="A ball.", num_prompt_tokens=321, num_generated_tokens=4)]
    (request,) = server.requests
    *parts, last = content_of(request)
    assert [part["type"] for part in parts] == ["text", "image_url"] * 3
    assert [part["text"] for part in parts[::2]] == [
        "Frame 1 of 3, at 0.50 s of 4.00 s:",
        "Frame 2 of 3, at 2.00 s of 4.00 s:",
        "Frame 3 of 3, at 3.50 s of 4.00 s:",
    ]
    for part, colour in zip(parts[1::2], COLOURS, strict=True):
        image = picture(part)
        assert image.size == (48, 32)
        assert np.abs(np.asarray(image, dtype=int) - colour).max() < 8
    assert last == {"type": "text", "text": "What is 0? Answer briefly."}
    fields = {name: value for name, value in request.body.items() if name != "messages"}
    assert fields == {"model": "m", "max_tokens": 256, "temperature": 0}


@pytest.mark.parametrize(
    ("size", "max_pixels", "expected"),
    [
        ((32, 48), 32 * 48, (48, 32)),
        ((32, 48), 400, (24, 16)),
        ((32, 48), 1, (1, 1)),
        ((90, 3), 100, (1, 54)),
    ],
)
def test_pictures_keep_to_the_limit_of_pixels(server, load, size, max_pixels, expected):
    load(max_pixels=max_pixels).answer([video(*size)], [question()])
    images = [picture(part) for part in content_of(server.requests[0])[1:-1:2]]
    assert [image.size for image in images] == [expected] * 3
    assert expected[0] * expected[1] <= max_pixels


def test_blind_there_is_no_picture(server, load):
    load().answer([no_frames(video())], [question()])
    assert content_of(server.requests[0]) == "What is 0? Answer briefly."


def test_earlier_turns_are_messages_and_the_frames_stand_before_the_first(server, load):
    turns = (
        Turn("system", "Be brief."),
        Turn("user", "What is it?"),
        Turn("assistant", "A ball."),
    )
    later = question(earlier_turns=turns)
    system = load()
    system.answer([no_frames(video())], [later])
    assert server.requests[0].body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": "A ball."},
        {"role": "user", "content": later.prompt},
    ]
    system.answer([video()], [later])
    told, first, *others = server.requests[1].body["messages"]
    assert told["content"] == "Be brief."
    assert first["role"] == "user"
    assert first["content"][-1] == {"type": "text", "text": "What is it?"}
    assert len(first["content"]) == 7
    assert [message["content"] for message in others] == ["A ball.", later.prompt]
    # Another conversation before the same question is another request; the same one is not.
    system.answer([video()], [replace(later, earlier_turns=turns[1:])])
    system.answer([video()], [later])
    assert len(server.requests) == 3


def test_choices_are_asked_for_by_letter_and_predictions_in_the_papers_words(server, load):
    system = load()
    system.choose([no_frames(video())], [choice()])
    assert content_of(server.requests[0]) == (
        "What is 0?\nA. a ball\nB. a cat\nAnswer with the letter of the right option."
    )
    load(option_scoring="text").choose([no_frames(video())], [choice()])
    assert content_of(server.requests[1]) == choice().prompt
    server.script(reply("1. It falls.\nConfidence: 0.5"))
    (predicted,) = system.predict([no_frames(video())], [question(prompt=FUTURE_PREDICTION_PROMPT)])
    assert content_of(server.requests[0]) == FUTURE_PREDICTION_PROMPT
    assert predicted.output == "1. It falls.\nConfidence: 0.5"


def test_how_texts_are_generated_is_sent_along(server, load):
    nucleus = DecodingConfig(
        strategy="nucleus", temperature=0.5, top_p=0.8, seed=3, max_new_tokens=9
    )
    load(nucleus).answer([no_frames(video())], [question()])
    sent = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.8, "seed": 3}
    assert sent.items() <= server.requests[0].body.items()
    fields = {"max_tokens": None, "max_completion_tokens": 7, "temperature": None}
    load(request_fields=fields).answer([no_frames(video())], [question()])
    assert server.requests[1].body.keys() == {"model", "messages", "max_completion_tokens"}
    with pytest.raises(ValueError, match=r"strategy is 'beam'.*set greedy or nucleus"):
        load(DecodingConfig(strategy="beam"))


def test_a_mistake_in_the_configuration_is_said_at_the_start(server, load, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"baselines.request_fields sets \['messages', 'model'\]"):
        load(request_fields={"model": "other", "messages": "none"})
    with pytest.raises(ValueError, match="weights has no model; name the id"):
        Endpoint.load(BaselineConfig(kind="endpoint"), DecodingConfig(), torch.device("cpu"))
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ValueError, match="variable TEST_KEY is not set"):
        load()
    (tmp_path / "replies.sqlite").write_text("somebody's notes " * 100)
    monkeypatch.setenv("TEST_KEY", KEY)
    with pytest.raises(ValueError, match=r"replies\.sqlite cannot be used as a cache"):
        load()
    assert server.requests == []


def test_without_a_file_of_its_own_replies_are_kept_in_the_users_cache(
    server, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = BaselineConfig(
        kind="endpoint",
        weights={"model": "m"},
        endpoint=EndpointConfig(base_url=server.url, api_key_variable=""),
    )
    Endpoint.load(config, DecodingConfig(), torch.device("cpu")).answer(*questions(1))
    assert (tmp_path / "vidreason" / "replies.sqlite").is_file()


def test_no_request_is_paid_for_twice(server, load):
    server.script(usage("first", 10, 2))
    videos, asked_twice = [video()] * 4, [question(0), question(1), question(0), question(1)]
    first = load().answer(videos, asked_twice)
    assert len(server.requests) == 2
    server.script(usage("second", 20, 3))
    # Started again; also the same question with other frames, settings or no frames.
    assert load().answer(videos, asked_twice) == first
    assert first == [Reply(output="first", num_prompt_tokens=10, num_generated_tokens=2)] * 4
    assert server.requests == []
    load().answer([no_frames(video())], [question(0)])
    load(max_pixels=100).answer([video()], [question(0)])
    load(request_fields={"seed": 1}).answer([video()], [question(0)])
    assert len(server.requests) == 3


def test_answers_come_in_the_order_of_the_questions_though_replies_do_not(server, load):
    barrier = threading.Barrier(8, timeout=10)

    def slow(request):
        number = int(prompt_of(request).split()[2][:-1])
        barrier.wait()  # all eight are under way at once, or this fails
        time.sleep(0.03 * (8 - number))
        return reply(str(number))

    server.script(ByRequest(slow))
    replies = load(max_attempts=1).answer(*questions(8))
    assert [one.output for one in replies] == list("01234567")


def test_the_budget_is_a_hard_limit_over_all_starts(server, load):
    server.script(ByRequest(lambda request: reply(prompt_of(request)[:9])))
    with pytest.raises(BudgetSpentError, match="max_requests=3 requests are spent") as caught:
        load(max_requests=3).answer(*questions(5))
    assert isinstance(caught.value, ReportedError), "a program says it in a line"
    assert len(server.requests) == 3
    # Again with the same limit: nothing more is sent, and what was answered is still there.
    with pytest.raises(BudgetSpentError):
        load(max_requests=3).answer(*questions(5))
    assert len(server.requests) == 3
    replies = load(max_requests=5).answer(*questions(5))
    assert [one.output for one in replies] == [f"What is {number}" for number in range(5)]
    assert len(server.requests) == 5


def test_the_budget_counts_what_a_model_worked_on(server, load):
    # Turned down, and then answered: one is paid for.
    server.script(http(429, b"busy"), http(503, b"busy"), reply("fine"))
    (answered,) = load(max_requests=1, max_attempts=3).answer(*questions(1))
    assert answered.output == "fine"
    # An empty reply and a broken one were paid for, as far as anybody can tell.
    server.script(reply(""), http(200, b"<html>"), reply("late"))
    with pytest.raises(BudgetSpentError):
        load(max_requests=3, max_attempts=3).answer([video()], [question(7)])
    assert len(server.requests) == 2


def test_what_is_refused_is_an_empty_answer_and_no_end(server, load, caplog):
    filtered = http(400, {"error": {"code": "content_filter", "message": "no"}})
    too_long = "The decoder prompt (length 9000) is longer than the maximum model length of 4096."

    def answer(request):
        answers = [
            filtered,
            http(400, {"error": {"message": too_long, "code": 400}}),
            reply(None, message={"refusal": "I cannot."}),
            reply("half a sen", finish_reason="content_filter"),
            http(200, {"choices": [], "model": "m"}),
            reply("cut he", finish_reason="length"),
            reply("(B)"),
        ]
        return answers[int(prompt_of(request).split()[2].split("?")[0])]

    server.script(ByRequest(answer))
    answerer = SystemAnswerer(
        Endpoint,
        load,
        Endpoint.frame_rule(BaselineConfig(kind="endpoint")),
        lambda *_: video(),
        Provenance(model="m"),
    )
    assert answerer.capabilities == {"answer", "choose", "predict"}
    rows = evaluate_examples(
        answerer, [choice(number) for number in range(7)], EvaluationConfig(batch_size=7)
    )
    assert [row.output for row in rows] == ["", "", "", "", "", "cut he", "(B)"]
    assert [row.parsed for row in rows[:5]] == [None] * 5
    assert [bool(row.correct) for row in rows] == [False] * 6 + [True]
    # Each row says why it has no answer, or a part of one.
    refused = "the endpoint refuses the texts of the request (status 400): "
    assert [row.record.get("problem") for row in rows] == [
        *(f"{refused}no", f"{refused}{too_long}"),
        *(
            "the model refused: I cannot.",
            "the output was held back by the service's content filter",
            "the reply has no answer: choices is a list of 0",
        ),
        *("the output was cut at the limit of tokens", None),
    ]
    assert "5 of 7 requests have no answer, such as one" in caplog.text


@pytest.mark.parametrize("first", ["refused", "answered"])
def test_a_service_that_refuses_everything_ends_the_run(server, load, first):
    def answer(request):
        if first == "answered" and "is 0?" in prompt_of(request):
            return reply("fine")
        return http(200, {"choices": [], "model": "m"})

    server.script(ByRequest(answer))
    endpoint = load()
    videos, examples = questions(MAX_REFUSED_AT_FIRST + 1)
    assert len(endpoint.answer(videos[:20], examples[:20])) == 20
    if first == "answered":
        # What it answered once, it can: these are refused for what is in them.
        assert all(not one.output for one in endpoint.answer(videos[20:], examples[20:]))
        return
    with pytest.raises(ValueError, match=r"none of its first 33 .*choices is a list of 0"):
        endpoint.answer(videos[20:], examples[20:])


def test_an_outage_ends_the_run_and_what_was_answered_is_kept(server, load):
    # Of three requests at a time, whichever they are, one fails at every try.
    def answer(request):
        return http(500, b"down") if "is 1?" in prompt_of(request) else reply("fine")

    server.script(ByRequest(answer))
    with pytest.raises(
        EndpointUnavailableError, match=r"no output in 2 tries.*status 500"
    ) as caught:
        load().answer(*questions(3))
    assert isinstance(caught.value, ReportedError)
    assert "start again to go on" in caught.value.lines()[0]
    server.script(reply("back"))
    replies = load().answer(*questions(3))
    assert replies[1].output == "back"
    kept = [one.output for one in (replies[0], replies[2])]
    assert len(server.requests) == 1 + kept.count("back")


def test_a_busy_endpoint_is_asked_again(server, load):
    server.script(http(429, b"busy", "Retry-After: 0"), reply("fine"))
    assert load().answer(*questions(1))[0].output == "fine"
    assert len(server.requests) == 2


def test_a_wrong_key_ends_the_run_at_once(server, load):
    server.script(http(401, {"error": {"message": f"wrong key {KEY}"}}))
    with pytest.raises(EndpointRefusedError, match=r"put a valid key into TEST_KEY.*\[secret\]"):
        load().answer(*questions(1))


def test_the_key_is_in_nothing_that_is_written(server, load, tmp_path, caplog, capsys):
    echoes = [
        reply(f"you sent {KEY}", message={"refusal": KEY}),
        http(500, {"error": {"message": f"bad {KEY}"}}, f"X-Echo: {KEY}"),
    ]
    said = []
    with caplog.at_level(logging.DEBUG):
        for number, echo in enumerate(echoes):
            server.script(echo)
            try:
                said.append(repr(load().answer([video()], [question(number)])))
            except EndpointUnavailableError as error:
                said += [repr(error), repr(error.__cause__)]
    config = load()._config
    said.append(json.dumps(Endpoint.answering(config)) + repr(Endpoint.facts(config)))
    said += [caplog.text, *capsys.readouterr()]
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    written = b"".join(path.read_bytes() for path in files) + " ".join(said).encode()
    for part in (KEY, KEY[:8], KEY[-8:], base64.b64encode(KEY.encode()).decode()[:20]):
        assert part.encode() not in written


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (http(200, b"<html><body>busy</body></html>"), "not JSON"),
        (http(200, b" " * 10_000_000), "more than 100000 bytes"),
        (reply("x" * 200_000), "more than 100000 bytes"),
    ],
    ids=["HTML", "10 MB", "a long answer"],
)
def test_what_is_no_reply_ends_the_run_and_is_not_kept(server, load, monkeypatch, answer, cause):
    monkeypatch.setattr(transport, "MAX_REPLY_BYTES", 100_000)
    server.script(answer)
    with pytest.raises(EndpointUnavailableError, match=cause):
        load().answer(*questions(1))
    server.script(reply("fine"))
    assert load().answer(*questions(1))[0].output == "fine"


def test_strange_texts_are_texts(server, load):
    strange = "\x00\x1b[31m<|im_end|>\u202e</s> \ud800"
    server.script(reply(strange))
    (answered,) = load().answer(*questions(1))
    assert answered.output == "\x00\x1b[31m<|im_end|>\u202e</s> \ufffd\ufffd\ufffd"
    server.script(reply("A" * 1_000_000))
    (answered,) = load().answer([video()], [question(1)])
    assert answered.output == "A" * MAX_OUTPUT_CHARS
    for counts in ([], {"prompt_tokens": "9"}, {"prompt_tokens": -1, "completion_tokens": True}):
        server.script(http(200, {"choices": [{"message": {"content": "a"}}], "usage": counts}))
        (answered,) = load(request_fields={"user": str(counts)}).answer(*questions(1))
        assert answered == Reply(output="a")


def test_control_tokens_of_questions_are_broken_and_pictures_are_not(server, load):
    text = "<|im_start|>system <image> <video> [INST] </s> <start_of_turn> a < b"
    load().answer([video()], [question(prompt=text)])
    *parts, last = content_of(server.requests[0])
    assert last["text"] == (
        "< |im_start|>system < image> < video> [ INST] < /s> < start_of_turn> a < b"
    )
    assert [picture(part).size for part in parts[1::2]] == [(48, 32)] * 3


def test_a_request_has_a_largest_size(server, load, monkeypatch):
    monkeypatch.setattr(endpoint_messages, "MAX_REQUEST_BYTES", 2_000)
    with pytest.raises(ValueError, match=r"set fewer frames \(num_frames\) or smaller"):
        load().answer([video()], [question()])
    assert server.requests == []
    load().answer([no_frames(video())], [question()])
    data = {"type": "image_url", "image_url": {"url": "https://elsewhere.example/a.jpg"}}
    for content in ([data], [{"type": "file"}]):
        with pytest.raises(ValueError, match="parts are texts, and media as data:"):
            endpoint_messages.plain_messages([{"role": "user", "content": content}])


def video_tokens(shown, blind):
    """Answer by what was sent: with these numbers of prompt tokens."""

    def answer(request):
        return usage("fine", blind if isinstance(content_of(request), str) else shown, 1)

    return ByRequest(answer)


def test_frames_are_sent_as_one_video_at_the_rate_that_they_were_taken_at(server, load, tmp_path):
    server.script(video_tokens(90, 12))
    system = load(frames_as="video")
    replies = system.answer(*questions(2))
    assert [one.num_prompt_tokens for one in replies] == [90, 90]
    # One more without the video, which the blind control then has for nothing.
    assert len(server.requests) == 3
    (blind,) = system.answer([no_frames(video())], [question(0)])
    assert blind.num_prompt_tokens == 12
    assert len(server.requests) == 3
    part, text = content_of(server.requests[0])
    assert text == {"type": "text", "text": "What is 0? Answer briefly."}
    kind, data = part["video_url"]["url"].split(",", 1)
    assert kind == "data:video/mp4;base64"
    path = tmp_path / "sent.mp4"
    path.write_bytes(base64.b64decode(data, validate=True))
    index = DIRECT.index(str(path))
    assert index.timestamps.tolist() == pytest.approx([0, 1.5, 3], abs=1e-3)
    read = DIRECT.read_frames(index, [0, 1, 2])
    assert (read.shape[2], read.shape[3]) == (32, 48)
    wrong = (read.float().mean((2, 3)) - torch.tensor(COLOURS, dtype=torch.float32)).abs()
    assert wrong.max() < 12


def test_a_video_is_the_same_however_its_file_is_written(server, load, monkeypatch):
    server.script(video_tokens(90, 12))
    for encoded in (b"written one way", b"written another way"):
        monkeypatch.setattr(frame_messages, "mp4", lambda *_, encoded=encoded: encoded)
        load(frames_as="video").answer(*questions(1))
    assert len(server.requests) == 2
    others = video()._replace(seconds=(0.5, 2.0, 3.0)), video()._replace(pixels=1 + video().pixels)
    load(frames_as="video").answer(others, [question(0)] * 2)
    assert len(server.requests) == 4


@pytest.mark.parametrize(("count", "seconds"), [(1, 0.04), (5, 7200.0), (64, 1.001)])
def test_rates_of_short_and_long_videos_are_true(tmp_path, count, seconds):
    pixels = torch.randint(0, 255, (count, 3, 35, 51), dtype=torch.uint8)
    times = tuple((number + 0.5) * seconds / count for number in range(count))
    frames = Frames(pixels, times, tuple(range(count)), count, seconds)
    path = tmp_path / "a.mp4"
    path.write_bytes(mp4(frames, 10**6))
    index = DIRECT.index(str(path))
    expected = [number * seconds / count for number in range(count)]
    assert index.timestamps.tolist() == pytest.approx(expected, abs=2e-3, rel=1e-3)
    assert DIRECT.read_frames(index, [0]).shape[2:] == (34, 50)


@pytest.mark.parametrize(("shown", "blind"), [(12, 12), (0, 0), (11, 12)])
def test_an_endpoint_that_does_not_look_at_videos_is_refused(server, load, shown, blind):
    server.script(video_tokens(shown, blind))
    with pytest.raises(ValueError, match="does not seem to look at videos; set frames_as=images"):
        load(frames_as="video").answer(*questions(4))
    assert len(server.requests) == 2


def test_what_decides_the_answers_is_said():
    config = BaselineConfig(
        kind="endpoint",
        weights={"model": "m-2026"},
        num_frames=4,
        max_pixels=100,
        request_fields={"seed": 1},
        endpoint=EndpointConfig(base_url="http://localhost:8000/v1", api_key_variable=""),
    )
    assert Endpoint.answering(config) == {
        "model": "m-2026",
        "host": "localhost:8000",
        "frames_as": "images",
        "num_frames": 4,
        "max_pixels": 100,
        "jpeg_quality": 90,
        "option_scoring": "letter",
        "request_fields": {"seed": 1},
    }
    assert "h264_crf" in Endpoint.answering(replace(config, frames_as="video"))
    assert Endpoint.facts(config).fidelity == "endpoint"
    assert Endpoint.facts(config).source == "m-2026 at localhost:8000"
    assert list(Endpoint.frame_rule(config)(100)) == [12, 37, 62, 87]
    assert len(Endpoint.frame_rule(replace(config, num_frames=None))(100)) == 8
