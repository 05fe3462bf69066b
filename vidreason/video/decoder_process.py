"""The process that reads videos for another one, so that it may be killed: the watchdog starts it.

Calls and answers are pickles over a socket; only the functions of one literal table can be called.
Decoded pictures go into memory that both processes share, and that is used again for each video:
fresh pages would cost more than the copy that the parent makes.
"""

import math
import mmap
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from multiprocessing.connection import Connection
from typing import IO, Any, NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vidreason.video.container import OpenVideo
from vidreason.video.decoding import decode_frames
from vidreason.video.failures import VideoReadError
from vidreason.video.index import VideoIndex, index_and_keep_open
from vidreason.video.limits import MAX_DECODER_BYTES
from vidreason.video.media import media_identity
from vidreason.video.media_content import read_content
from vidreason.video.reading_errors import reading_errors
from vidreason.video.sequential import frames_of_file

GRACE_SECONDS = 10
"""A request this far over its limit means that the parent is gone: exit."""

IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""The parent decides when to end. Ctrl-C and schedulers, SLURM by SIGUSR1, signal every process
of a group, and the others still want the videos that they have in hand."""

PASSED_ERRORS = (VideoReadError, ImportError)
"""Raised by the parent. The second is no fault of a video: a package for a URL is missing."""


class Call(NamedTuple):
    """A function to be called in the decoder process."""

    function: str
    """A name in the table of :func:`serve`."""
    arguments: tuple[object, ...]
    path: str
    """The video, for errors."""
    timeout_seconds: float


class Failure(NamedTuple):
    """An answer that is an error."""

    error: BaseException
    """One of ``PASSED_ERRORS``."""
    cause: str
    """Traceback of what it was raised from; empty if from nothing."""


class SharedPictures:
    """Memory for pictures that two processes share: a file without a name.

    Args:
        descriptor: The other process' file; None makes a new one, without a disk where the system
            has such.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None and sys.platform == "linux":
            descriptor = os.memfd_create("frames")  # not in /dev/shm: containers keep it at 64 MB
        self._file: IO[bytes]
        if descriptor is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by close()
        else:
            self._file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115
        self._memory: mmap.mmap | None = None

    @property
    def descriptor(self) -> int:
        """The file's descriptor, which the other process is started with."""
        return self._file.fileno()

    def array(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """The array of ``shape`` at the start of the memory, which grows as needed.

        Raises:
            OSError: There is not that much memory.
        """
        size = math.prod(shape)
        if self._memory is None or len(self._memory) < size:
            if os.fstat(self.descriptor).st_size < size:
                os.truncate(self.descriptor, size)
            self._memory = mmap.mmap(self.descriptor, size)
        return np.frombuffer(self._memory, dtype=np.uint8, count=size).reshape(shape)

    def close(self) -> None:
        """Close the file; arrays stay valid."""
        self._file.close()


def serve(connection: Connection, pictures: SharedPictures) -> None:
    """Answer calls until the other side is gone; the whole life of the process."""
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED_SIGNALS)
    _limit_memory()
    videos = _Videos(pictures)
    functions: dict[str, Callable[..., object]] = {
        "media_identity": media_identity,
        "read_content": read_content,
        "index_video": videos.index_video,
        "decode_frames": videos.decode_frames,
        "check_frames": videos.check_frames,
    }
    connection.send("ready")
    while True:
        try:
            call: Call = connection.recv()
        except EOFError:
            return
        # Its default action ends the process whatever libav does at that moment.
        signal.setitimer(signal.ITIMER_REAL, call.timeout_seconds + GRACE_SECONDS)
        answer: Any
        try:
            with reading_errors(call.path):
                answer = functions[call.function](*call.arguments)
        except PASSED_ERRORS as error:
            answer = _failure(error)
        connection.send(answer)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _failure(error: BaseException) -> Failure:
    cause = error.__cause__
    text = "" if cause is None else "".join(traceback.format_exception(cause)).rstrip()
    return Failure(error, text)


def _limit_memory() -> None:
    if sys.platform == "linux":  # elsewhere the limit does not cover what is mapped
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        limit = MAX_DECODER_BYTES if most < 0 else min(MAX_DECODER_BYTES, most)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


class _Videos:
    """The functions that keep something from one call to the next: the open video."""

    def __init__(self, pictures: SharedPictures) -> None:
        self._pictures = pictures
        self._index: VideoIndex | None = None
        self._opened: OpenVideo | None = None
        self._last = ExitStack()
        self._frames: Iterator[VideoFrame] = iter(())

    def index_video(self, path: str) -> VideoIndex:
        """The index of a video, which stays open."""
        self._opened = None
        self._last.close()
        self._index, self._opened = self._last.enter_context(index_and_keep_open(path))
        return self._index

    def decode_frames(
        self, index: VideoIndex | None, frame_indices: list[int], shape: tuple[int, ...]
    ) -> None:
        """Decode into the shared memory.

        Args:
            index: The video's; None for the last one that this process returned or was given.
            frame_indices: n numbers of frames.
            shape: ``(n, H, W, 3)``.
        """
        if index is not None:
            self._index, self._opened = index, None
        assert self._index is not None
        decode_frames(self._index, frame_indices, self._pictures.array(shape), self._opened)

    def check_frames(self, path: str, num_frames: int, is_continued: bool) -> int:
        """Decode the next ``num_frames`` frames and keep none; return how many there were."""
        if not is_continued:
            self._frames = frames_of_file(path)
        return sum(1 for _ in islice(self._frames, num_frames))
