"""A tiny video language model on this machine as a teacher, on a real video."""

import threading

import pytest
import torch
from tiny_video_models import qwen2_5_vl, write_tiny_video_model

from vidreason.baselines.encoded_frames import mp4
from vidreason.baselines.frames import FrameReader, Frames
from vidreason.endpoints.cache import ReplyCache
from vidreason.endpoints.errors import EndpointUnavailableError
from vidreason.endpoints.replies import CUT
from vidreason.teacher.build import build_teacher, problems
from vidreason.teacher.config import TeacherConfig
from vidreason.teacher.local_teacher import LocalTeacher
from vidreason.video.reader import DIRECT


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_video_model(qwen2_5_vl, tmp_path_factory.mktemp("teacher") / "model")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A file of 12 frames in 3 seconds, the colours of which change."""
    levels = torch.linspace(0, 255, 12).to(torch.uint8)[:, None, None, None]
    seconds = tuple(0.25 * number for number in range(12))
    frames = Frames(levels.repeat(1, 3, 56, 84), seconds, tuple(range(12)), 12, 3.0)
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    path.write_bytes(mp4(frames, 10**6))
    return str(path)


@pytest.fixture
def load(model, tmp_path):
    def make(**fields):
        values = {"kind": "transformers", "model": model, "num_frames": 4, "max_new_tokens": 5}
        config = TeacherConfig(**values | fields)
        return build_teacher(config, ReplyCache(tmp_path / "replies.sqlite"))

    return make


def test_it_answers_about_a_real_video_and_the_reply_is_kept(load, video, monkeypatch):
    teacher = load()
    assert isinstance(teacher, LocalTeacher)
    assert teacher.num_parallel == 1
    frames = FrameReader(DIRECT)(video, 0.5, 2.5, teacher.frame_rule())
    assert frames.pixels.shape[0] == 4
    request = teacher.request(frames)
    reply = teacher.complete(request)
    assert reply.problem == CUT
    assert reply.num_generated_tokens == 5
    assert reply.num_prompt_tokens > request.num_text_chars  # one token a byte, and the video's
    # Two threads, and another start: nothing is generated again.
    again = load()
    monkeypatch.setattr(again, "_generated", None)
    assert again.complete(again.request(frames)) == reply


def test_it_looks_at_the_frames(load, video):
    # In few words: the frames are a large part of the prompt.
    teacher = load(answer_form="text", prompt="Why?")
    frames = FrameReader(DIRECT)(video, None, None, teacher.frame_rule())
    noise = torch.randint(0, 255, frames.pixels.shape, generator=torch.Generator().manual_seed(0))
    others = frames, frames._replace(pixels=noise.to(torch.uint8))
    requests = [teacher.request(one) for one in others]
    assert requests[0].key != requests[1].key
    replies = [teacher.complete(one) for one in requests]
    assert replies[0].num_prompt_tokens == replies[1].num_prompt_tokens
    assert replies[0].text != replies[1].text


def test_two_threads_get_their_answers(load, video):
    teacher = load()
    frames = FrameReader(DIRECT)(video, None, None, teacher.frame_rule())
    clips = [frames, frames._replace(pixels=255 - frames.pixels)]
    alone = [load().complete(load().request(one)) for one in clips]
    teacher = load(prompt="Why?")
    requests = [teacher.request(one) for one in clips]
    replies = [None, None]

    def ask(number):
        replies[number] = teacher.complete(requests[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert replies == [teacher.complete(one) for one in requests]
    assert replies != alone


def test_drawn_answers_are_the_same_every_time(load, video, tmp_path, model):
    config = TeacherConfig(
        kind="transformers", model=model, num_frames=2, max_new_tokens=5, temperature=1.5
    )
    teachers = [build_teacher(config, ReplyCache(tmp_path / f"{n}.sqlite")) for n in range(2)]
    frames = FrameReader(DIRECT)(video, None, None, teachers[0].frame_rule())
    first, second = (one.complete(one.request(frames)) for one in teachers)
    assert first == second
    greedy = load(num_frames=2)
    assert greedy.complete(greedy.request(frames)).text != first.text


def test_provenance_tells_weights_and_words(load, model):
    provenance = load().provenance()
    assert provenance.teacher.startswith(model + " (transformers:")
    assert provenance.parameters["num_frames"] == 4
    assert provenance.prompt_sha != load(answer_form="text").provenance().prompt_sha


def test_closed_it_answers_no_more(load, video):
    teacher = load()
    frames = FrameReader(DIRECT)(video, None, None, teacher.frame_rule())
    teacher.close()
    with pytest.raises(EndpointUnavailableError, match="closed already"):
        teacher.complete(teacher.request(frames))


def test_a_model_that_is_not_there_is_said_at_the_start(load, tmp_path, model):
    missing = TeacherConfig(kind="transformers", model=str(tmp_path / "nowhere"))
    assert ["neither a folder" in one for one in problems(missing)] == [True]
    assert problems(TeacherConfig(kind="transformers")) == [
        "teacher.model is empty; name the model"
    ]
    assert problems(TeacherConfig(kind="transformers", model=model)) == []
    assert problems(TeacherConfig(kind="transformers", model="Qwen/Qwen2.5-VL-7B-Instruct")) == []
    with pytest.raises(ValueError, match="nowhere"):
        load(model=str(tmp_path / "nowhere"))
