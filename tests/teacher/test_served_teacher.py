"""A tiny video language model behind ``transformers serve`` as a teacher of real videos."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import torch
from served_model import served_model

from vidreason.baselines.encoded_frames import mp4
from vidreason.baselines.frames import FrameReader, Frames
from vidreason.endpoints.budget import RequestBudget
from vidreason.endpoints.cache import ReplyCache
from vidreason.endpoints.config import EndpointConfig
from vidreason.endpoints.errors import EndpointRefusedError, EndpointUnavailableError
from vidreason.endpoints.replies import CUT
from vidreason.teacher.build import build_teacher
from vidreason.teacher.config import TeacherConfig
from vidreason.video.reader import DIRECT

NUM_CLIPS = 30
NUM_TOKENS = 8


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Address and model id of a server in a process of its own."""
    with served_model(tmp_path_factory.mktemp("served")) as served:
        yield served


def write_video(path, seed: int) -> str:
    """Twelve frames of noise that moves."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.randint(0, 255, (3, 56, 84), generator=generator).to(torch.uint8)
    pixels = torch.stack([picture.roll(7 * number, dims=2) for number in range(12)])
    seconds = tuple(0.25 * number for number in range(12))
    path.write_bytes(mp4(Frames(pixels, seconds, tuple(range(12)), 12, 3.0), 10**6))
    return str(path)


@pytest.fixture
def load(served, tmp_path):
    """``load(**fields)``: a teacher of the server; all share their replies."""
    url, model = served
    cache = ReplyCache(tmp_path / "replies.sqlite")
    budget = RequestBudget(cache, "all", None, "max_requests")
    with ExitStack() as stack:

        def make(**fields):
            config = TeacherConfig(
                **{"model": model, "num_frames": 4, "max_new_tokens": NUM_TOKENS} | fields,
                endpoint=EndpointConfig(
                    base_url=url, api_key_variable="", timeout_seconds=120, max_attempts=2
                ),
            )
            teacher = build_teacher(config, cache, budget)
            stack.callback(teacher.close)
            teacher.num_spent = lambda: budget.num_spent
            return teacher

        yield make


def read(path, teacher) -> Frames:
    return FrameReader(DIRECT)(path, None, None, teacher.frame_rule())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirty_clips_through_a_real_server(load, tmp_path):
    teacher = load()
    videos = [write_video(tmp_path / f"{number}.mp4", number) for number in range(NUM_CLIPS)]
    requests = [teacher.request(read(one, teacher)) for one in videos]
    assert len({one.key for one in requests}) == NUM_CLIPS
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(teacher.complete, requests))
    assert all(one.num_generated_tokens == NUM_TOKENS for one in replies)
    assert all(one.problem == CUT for one in replies), "a random model does not end"
    # It says nothing of a field that it does not know; the probe tells.
    assert teacher.provenance().parameters["schema"] is False
    assert teacher.num_spent() == NUM_CLIPS + 1
    # Started again, nothing is sent.
    again = load()
    assert [again.complete(one) for one in requests] == replies
    assert teacher.num_spent() == NUM_CLIPS + 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pictures_reach_a_real_server_and_videos_are_refused(load, tmp_path):
    path = write_video(tmp_path / "clip.mp4", 0)
    # In few words, so that the pictures are a large part of the prompt.
    words = {"answer_form": "text", "prompt": "Why?"}
    counts = []
    for num_frames in (1, 2, 4):
        teacher = load(num_frames=num_frames, **words)
        request = teacher.request(read(path, teacher))
        assert request.num_images == num_frames
        counts.append(teacher.complete(request).num_prompt_tokens - request.num_text_chars)
    # A token a character, and 2 x 3 of each picture between two marks: 56 x 84 in patches of 28.
    (one, two, four) = counts
    assert (two - one, four - two) == (8, 16)
    frames = read(path, teacher)
    dark = frames._replace(pixels=frames.pixels // 8)
    texts = {teacher.complete(teacher.request(shown)).text for shown in (frames, dark)}
    assert len(texts) == 2, "it looks at the pictures"
    # It does not take videos; that is an error, and no answer to the words alone.
    with_video = load(frames_as="video", **words)
    with pytest.raises((EndpointRefusedError, EndpointUnavailableError)):
        with_video.complete(with_video.request(frames))
