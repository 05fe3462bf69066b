"""A teacher behind an endpoint: what it is shown, whether it honours a schema, what it costs."""

import base64
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from loopback import KEY, ByRequest, http, reply

from vidreason.baselines import frame_messages
from vidreason.baselines.frames import Frames
from vidreason.endpoints import messages as endpoint_messages
from vidreason.endpoints.budget import RequestBudget
from vidreason.endpoints.cache import ReplyCache
from vidreason.endpoints.config import EndpointConfig
from vidreason.endpoints.errors import (
    BudgetSpentError,
    EndpointRefusedError,
    EndpointUnavailableError,
)
from vidreason.teacher.build import build_teacher, problems
from vidreason.teacher.config import TeacherConfig
from vidreason.teacher.prompt import ANSWER_FORMAT, TEACHER_PROMPT


@pytest.fixture
def load(server, tmp_path):
    """``load(limit=None, max_attempts=2, **fields of the configuration)``."""
    teachers = []

    def make(limit=None, max_attempts=2, **fields):
        cache = ReplyCache(tmp_path / "replies.sqlite")
        endpoint = EndpointConfig(
            base_url=server.url, api_key_variable="TEST_KEY", max_attempts=max_attempts
        )
        config = TeacherConfig(**{"model": "m", "endpoint": endpoint} | fields)
        budget = RequestBudget(cache, "m", limit, "running.max_requests")
        teacher = build_teacher(config, cache, budget)
        teacher.num_spent = lambda: budget.num_spent
        teachers.append(teacher)
        return teacher

    yield make
    for teacher in teachers:
        teacher.close()


def clip(value=0, height=32, width=48) -> Frames:
    pixels = torch.full((2, 3, height, width), value, dtype=torch.uint8)
    return Frames(pixels, (1.0, 3.0), (25, 75), 100, 4.0)


def is_probe(request) -> bool:
    return isinstance(request.body["messages"][0]["content"], str)


def only_answer(request):
    """The one answer that a schema allows, as a server that honours schemas gives it."""
    properties = request.body["response_format"]["json_schema"]["schema"]["properties"]
    return json.dumps({name: one["enum"][0] for name, one in properties.items()}, indent=1)


def honouring(request):
    return reply(only_answer(request) if is_probe(request) else '{"steps": []}')


def test_frames_and_the_papers_prompt_are_sent(server, load):
    teacher = load(answer_form="text", num_frames=2, max_pixels=400)
    assert list(teacher.frame_rule()(100)) == [25, 75]
    request = teacher.request(clip())
    assert server.requests == [], "a request costs nothing"
    assert teacher.complete(request).text == "fine"
    (sent,) = server.requests
    (message,) = sent.body["messages"]
    first, _, second, _, prompt = message["content"]
    assert first["text"] == "Frame 1 of 2, at 1.00 s of 4.00 s:"
    assert second["text"] == "Frame 2 of 2, at 3.00 s of 4.00 s:"
    assert prompt == {"type": "text", "text": TEACHER_PROMPT}
    fields = {name: value for name, value in sent.body.items() if name != "messages"}
    assert fields == {"model": "m", "max_tokens": 512, "temperature": 0.0}
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    # What a price is made of: 48 x 32 pixels are 24 x 16.
    assert (request.num_images, request.num_image_pixels) == (2, 2 * 24 * 16)
    texts = (first, second, prompt)
    assert request.num_text_chars == sum(len(one["text"]) for one in texts)


def test_a_request_is_the_same_every_time_and_another_for_anything_that_is_shown(load):
    others = [
        load(),
        load(prompt="Why?"),
        load(answer_form="text"),
        load(max_pixels=400),
        load(temperature=0.5),
        load(max_new_tokens=9),
        load(frames_as="video"),
        load(model="other"),
        load(request_fields={"seed": 1}),
        load(request_fields={"response_format": None}),
    ]
    keys = [teacher.request(clip()).key for teacher in others]
    keys += [load().request(one).key for one in (clip(1), clip()._replace(seconds=(1.0, 3.5)))]
    assert len(set(keys)) == len(keys)
    assert load().request(clip()).key == keys[0]


def test_a_schema_is_sent_where_it_is_honoured_and_one_request_tells(server, load):
    server.script(ByRequest(honouring))
    teacher = load()
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda n: teacher.complete(teacher.request(clip(n))), range(4)))
    assert {one.text for one in replies} == {'{"steps": []}'}
    probes = [one for one in server.requests if is_probe(one)]
    assert len(probes) == 1
    assert "lantern" not in probes[0].body["messages"][0]["content"]
    assert len(server.requests) == teacher.num_spent() == 5
    for request in server.requests[1:]:
        assert request.body["response_format"] == ANSWER_FORMAT
    assert teacher.provenance().parameters["schema"] is True
    # Started again, it is known.
    again = load()
    again.complete(again.request(clip(9)))
    assert len(server.requests) == 6
    assert server.requests[-1].body["response_format"] == ANSWER_FORMAT


@pytest.mark.parametrize(
    "answer",
    [
        reply("Hello, nice to meet you!"),
        reply('{"greeting": "Hello"}'),
        reply(""),
        reply("[" * 100_000),
        reply("fine", finish_reason="length"),
        http(400, {"error": {"message": "response_format is not supported"}}),
        http(422, {"detail": [{"msg": "extra fields not permitted"}]}),
    ],
    ids=["prose", "other JSON", "nothing", "brackets", "cut", "400", "422"],
)
def test_a_schema_is_not_sent_where_it_is_left_out_of_account(server, load, caplog, answer):
    server.script(ByRequest(lambda one: answer if is_probe(one) else reply("1. It falls.")))
    teacher = load()
    with caplog.at_level(logging.INFO, "vidreason"):
        assert teacher.complete(teacher.request(clip())).text == "1. It falls."
    assert "schema not honoured" in caplog.text
    assert "response_format" not in server.requests[-1].body
    provenance = teacher.provenance()
    assert provenance.parameters["schema"] is False
    # The result is kept, a refusal too.
    before = len(server.requests)
    again = load()
    again.complete(again.request(clip(1)))
    assert len(server.requests) == before + 1
    # The words ask for the form all the same.
    assert "JSON object" in server.requests[-1].body["messages"][0]["content"][-1]["text"]


def test_an_outage_of_the_probe_tells_nothing_and_is_not_kept(server, load):
    server.script(http(500, b"down"))
    teacher = load()
    with pytest.raises(EndpointUnavailableError, match="status 500"):
        teacher.complete(teacher.request(clip()))
    server.script(http(401, {"error": {"message": f"no {KEY}"}}))
    with pytest.raises(EndpointRefusedError, match="put a valid key"):
        teacher.complete(teacher.request(clip()))
    server.script(ByRequest(honouring))
    teacher.complete(teacher.request(clip()))
    assert server.requests[-1].body["response_format"] == ANSWER_FORMAT


def test_the_probe_can_be_turned_off(server, load):
    teacher = load(request_fields={"response_format": None, "max_tokens": None})
    teacher.complete(teacher.request(clip()))
    (sent,) = server.requests
    assert sent.body.keys() == {"model", "messages", "temperature"}


def test_no_clip_is_paid_for_twice(server, load):
    server.script(ByRequest(honouring))
    first = load()
    answered = first.complete(first.request(clip()))
    second = load(limit=2)
    assert second.complete(second.request(clip())) == answered
    assert len(server.requests) == second.num_spent() == 2
    with pytest.raises(BudgetSpentError, match=r"running\.max_requests=2"):
        second.complete(second.request(clip(1)))
    assert len(server.requests) == 2


def video_server(with_video, without, schema_tokens=0):
    def answer(request):
        content = request.body["messages"][0]["content"]
        if is_probe(request) and "Greet" in content:
            return reply(only_answer(request))
        tokens = without if isinstance(content, str) else with_video
        tokens += schema_tokens if "response_format" in request.body else 0
        usage = {"prompt_tokens": tokens, "completion_tokens": 3}
        return http(200, {"choices": [{"message": {"content": "fine"}}], "usage": usage})

    return ByRequest(answer)


def test_videos_are_sent_where_they_are_looked_at(server, load):
    server.script(video_server(90, 12))
    teacher = load(frames_as="video")
    request = teacher.request(clip())
    assert (request.num_images, request.num_image_pixels) == (0, 2 * 48 * 32)
    assert teacher.complete(request).text == "fine"
    teacher.complete(teacher.request(clip(1)))
    kinds = [
        "text" if is_probe(one) else one.body["messages"][0]["content"][0]["type"]
        for one in server.requests
    ]
    # The probe of the schema, a video, the same words without it, and another video.
    assert kinds == ["text", "video_url", "text", "video_url"]


def test_a_video_that_nobody_looks_at_is_an_error_and_its_answer_is_never_given(server, load):
    # A service that counts the tokens of a schema does not seem to look for that.
    server.script(video_server(12, 12, schema_tokens=50))
    barrier = threading.Barrier(4)

    def ask(teacher, number):
        barrier.wait(10)
        with pytest.raises(EndpointRefusedError, match="does not seem to look at videos"):
            teacher.complete(teacher.request(clip(number)))

    for _ in range(2):  # the stored answer is not given either
        teacher = load(frames_as="video")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, [teacher] * 4, range(4)))


def test_a_request_has_a_largest_size(load, monkeypatch):
    monkeypatch.setattr(endpoint_messages, "MAX_REQUEST_BYTES", 2_000)
    with pytest.raises(ValueError, match=r"set fewer frames \(num_frames\) or smaller"):
        load().request(clip())


def test_closed_it_ends_its_requests_and_sends_no_more(server, load):
    entered = threading.Event()

    def slow(connection, done):
        entered.set()
        done.wait(10)

    server.script(slow)
    teacher = load(answer_form="text")
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(teacher.complete, teacher.request(clip()))
        assert entered.wait(10)
        teacher.close()
        with pytest.raises(EndpointUnavailableError, match="closed meanwhile"):
            future.result(10)
    with pytest.raises(EndpointUnavailableError, match="closed already"):
        teacher.complete(teacher.request(clip(1)))


def test_mistakes_are_said_at_the_start_and_a_dry_run_needs_no_key(server, load, monkeypatch):
    monkeypatch.delenv("TEST_KEY")
    teacher = load()
    assert teacher.request(clip()).num_images == 2
    with pytest.raises(ValueError, match="TEST_KEY is not set"):
        teacher.complete(teacher.request(clip()))
    endpoint = EndpointConfig(base_url=server.url, api_key_variable="TEST_KEY")
    reasons = problems(TeacherConfig(endpoint=endpoint))
    assert any("teacher.model is empty" in one for one in reasons)
    assert any("teacher.endpoint: the environment variable TEST_KEY" in one for one in reasons)
    with pytest.raises(ValueError, match=r"teacher\.model is empty"):
        load(model="")
    monkeypatch.setattr(frame_messages.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("TEST_KEY", KEY)
    assert problems(TeacherConfig(model="m", endpoint=endpoint)) == [
        "teacher.endpoint: an endpoint needs the package openai: pip install 'vidreason[endpoints]'"
    ]
    with pytest.raises(ValueError, match=r"teacher\.request_fields sets \['messages'\]"):
        TeacherConfig(request_fields={"messages": "none"})
    with pytest.raises(ValueError, match=r"teacher\.batch is set.*kind=endpoint or"):
        TeacherConfig(kind="transformers", batch=True)
    assert server.requests == []


def test_the_key_is_in_nothing_that_is_written(server, load, tmp_path, caplog, capsys):
    def echo(request):
        if is_probe(request):
            return http(422, {"error": {"message": f"bad {KEY}"}}, f"X-Echo: {KEY}")
        return reply(f"you sent {KEY}", message={"refusal": KEY})

    server.script(ByRequest(echo))
    with caplog.at_level(logging.DEBUG):
        teacher = load()
        said = [repr(teacher.complete(teacher.request(clip()))), repr(teacher.provenance())]
        server.script(http(500, {"error": {"message": f"down {KEY}"}}))
        with pytest.raises(EndpointUnavailableError) as caught:
            teacher.complete(teacher.request(clip(1)))
    said += [repr(caught.value), repr(caught.value.__cause__), caplog.text, *capsys.readouterr()]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    written += " ".join(said).encode()
    assert b"[secret]" in written
    for part in (KEY, KEY[:8], KEY[-8:], base64.b64encode(KEY.encode()).decode()[:20]):
        assert part.encode() not in written
