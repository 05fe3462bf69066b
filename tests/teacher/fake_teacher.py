"""A teacher in this process that a test scripts, and frames of no video."""

import hashlib
import threading
import time
from contextlib import contextmanager

import torch

from vidreason.baselines.frames import Frames, middle_frames
from vidreason.endpoints.cache import ReplyCache
from vidreason.endpoints.replies import ChatReply
from vidreason.teacher.clip import Clip
from vidreason.teacher.prices import Usage
from vidreason.teacher.protocol import TeacherRequest


def sample(number, source="world"):
    return [Clip(source=source, video_id=f"v{index}", media=f"{index}") for index in range(number)]


class Gauge:
    """Counts who is inside, and remembers the most."""

    def __init__(self):
        self.now = self.most = 0
        self._lock = threading.Lock()

    @contextmanager
    def inside(self):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            yield
        finally:
            with self._lock:
                self.now -= 1


class FakeTeacher:
    """Answers by ``script(name of the video)``, a reply or an exception; counted as an endpoint.

    It stores replies by their keys, as teachers do.
    """

    teacher_id = "fake"

    def __init__(self, cache: ReplyCache, spending, script=None, num_parallel=64):
        self.num_parallel = num_parallel
        self.script = script or (lambda name: answer(name))
        self.sent = []
        self.sending, self.reading = Gauge(), Gauge()
        self.num_closed = 0
        self._cache, self._spending = cache, spending

    def frame_rule(self):
        return middle_frames(2)

    def frames(self, media, start, end, rule):
        with self.reading.inside():
            assert list(rule(2)) == [0, 1]
            pixels = torch.full((1, 3, 28, 28), int(media) % 256, dtype=torch.uint8)
            return Frames(pixels, (0.0,), (int(media),), 1, 1.0)

    def request(self, frames):
        name = str(frames.indices[0])
        return TeacherRequest(
            key=hashlib.sha256(name.encode()).hexdigest(),
            content=name,
            num_images=2,
            num_image_pixels=2 * 28 * 28,
            num_text_chars=40,
        )

    def complete(self, request):
        stored = self._cache.stored(request.key)
        if stored is not None:
            return stored
        with self.sending.inside():
            self._spending.spend()
            self.sent.append(request.content)
            reply = self.script(request.content)
            time.sleep(0.001)
            if isinstance(reply, Exception):
                raise reply
        self._cache.put(self.teacher_id, [(request.key, reply)])
        return reply

    def close(self):
        self.num_closed += 1


def answer(name, tokens=10):
    return ChatReply(text=f"answer {name}", num_prompt_tokens=tokens, num_generated_tokens=tokens)


REQUEST_USAGE = Usage(1, 2, 14, 100)
"""Estimate of each request of :class:`FakeTeacher` with answers of at most 100 tokens."""
