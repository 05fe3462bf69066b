"""The process that reads videos for another one, so that it may be killed: the watchdog starts it.

Requests and answers are pickles behind their length, over one socket. Decoded pictures go into
memory that both processes share, and that is used again for each video: fresh pages would cost more
than the copy that the parent makes.
"""

import math
import mmap
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vidreason.video.container import OpenVideo, open_video
from vidreason.video.decoding import decode_frames
from vidreason.video.failures import VideoReadError
from vidreason.video.index import VideoIndex, index_and_keep_open
from vidreason.video.media_content import identify, read_content
from vidreason.video.reading_errors import reading_errors
from vidreason.video.sequential import decode_all

GRACE_SECONDS = 10
"""A request this far over its limit means that the parent is gone: exit."""

MAX_MEMORY_BYTES = 8 * 2**30
"""Memory that the process may allocate. A decoder of the largest pictures that are decoded holds 17
of them, of 2 to 8 bytes a pixel; a file that makes libav allocate more is refused."""

IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Whoever asks decides when to end. Ctrl-C and schedulers, SLURM by SIGUSR1, signal every process
of a group, and the others still want the videos that they have in hand."""

PASSED_ERRORS = (VideoReadError, ImportError)
"""Raised by whoever asked. The second is no fault of a video: fsspec lacks a package for a URL."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An answer that is an error."""

    error: BaseException
    """Of ``PASSED_ERRORS``."""
    cause: str
    """What it was raised from, with its traceback; empty if from nothing."""


@dataclass(frozen=True, kw_only=True)
class IdentityRequest:
    """Answered by the :class:`vidreason.video.media.MediaIdentity`, or by a ``VideoReadError``."""

    path: str


@dataclass(frozen=True, kw_only=True)
class ContentRequest:
    """Answered by the :class:`vidreason.video.media_content.MediaContent`, or by an error."""

    path: str


@dataclass(frozen=True, kw_only=True)
class IndexRequest:
    """Answered by the :class:`VideoIndex` of a file, or by its :class:`VideoReadError`."""

    path: str


@dataclass(frozen=True, kw_only=True)
class FramesRequest:
    """Answered by None with the pictures in the shared memory, or by a ``VideoReadError``."""

    path: str
    index: VideoIndex | None
    """None for the last index that was asked for."""
    frame_indices: list[int]
    size: tuple[int, int]
    """Width and height of the pictures."""
    memory_size: int
    """Of the memory whose descriptor comes with this request, or 0 for that of the last one."""


@dataclass(frozen=True, kw_only=True)
class CheckRequest:
    """To decode frames and keep none; answered by how many there were, or by an error."""

    path: str
    is_continued: bool
    """Whether to go on where the last such request ended."""
    num_frames: int


Request = IdentityRequest | ContentRequest | IndexRequest | FramesRequest | CheckRequest


class Message(NamedTuple):
    """What goes over the socket."""

    content: Any
    descriptor: int | None = None
    """Of shared memory."""


def send(connection: socket.socket, message: Message) -> None:
    """Send a message; its descriptor stays open here."""
    data = pickle.dumps(message.content, protocol=pickle.HIGHEST_PROTOCOL)
    header = struct.pack("<Q", len(data))
    if message.descriptor is None:
        connection.sendall(header)
    else:
        socket.send_fds(connection, [header], [message.descriptor])
    connection.sendall(data)


def receive(connection: socket.socket) -> Message:
    """Wait for a message.

    Raises:
        EOFError: The other side is gone.
    """
    header, descriptors, _, _ = socket.recv_fds(connection, 8, 1)
    descriptor = descriptors[0] if descriptors else None
    header += _receive(connection, 8 - len(header))
    (length,) = struct.unpack("<Q", header)
    return Message(pickle.loads(_receive(connection, length)), descriptor)


def pictures_shape(size: tuple[int, int], frame_indices: list[int]) -> tuple[int, int, int, int]:
    """The shape of the frames' RGB of a width and height."""
    width, height = size
    return len(frame_indices), height, width, 3


def pictures_in(memory: mmap.mmap, shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The array at the start of ``memory``."""
    return np.frombuffer(memory, dtype=np.uint8, count=math.prod(shape)).reshape(shape)


def shared_memory(size: int) -> tuple[int, mmap.mmap]:
    """The descriptor of a file without a name and, where the system has such, without a disk."""
    if sys.platform == "linux":
        # Not in /dev/shm, which containers often keep at 64 MB.
        descriptor = os.memfd_create("frames")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, size)
    return descriptor, mmap.mmap(descriptor, size)


def serve(connection: socket.socket) -> None:
    """Answer requests until the other side is gone; the whole life of the process."""
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED_SIGNALS)
    _limit_memory()
    videos = _Videos()
    send(connection, Message("ready"))
    while True:
        try:
            (request, timeout_seconds), descriptor = receive(connection)
        except EOFError:
            return
        # Its default action ends the process whatever libav does at that moment.
        signal.setitimer(signal.ITIMER_REAL, timeout_seconds + GRACE_SECONDS)
        try:
            with reading_errors(request.path):
                answer = videos.answer(request, descriptor)
        except PASSED_ERRORS as error:
            answer = _failure(error)
        send(connection, Message(answer))
        signal.setitimer(signal.ITIMER_REAL, 0)


def _failure(error: BaseException) -> Failure:
    cause = error.__cause__
    return Failure(
        error=error,
        cause="" if cause is None else "".join(traceback.format_exception(cause)).rstrip(),
    )


def _limit_memory() -> None:
    if sys.platform == "linux":  # elsewhere the limit does not cover what is mapped
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        limit = MAX_MEMORY_BYTES if most < 0 else min(MAX_MEMORY_BYTES, most)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


class _Videos:
    """What is kept from one request to the next: the open video, the shared memory."""

    def __init__(self) -> None:
        self._index: VideoIndex | None = None
        self._opened: OpenVideo | None = None
        self._last = ExitStack()
        self._memory: mmap.mmap | None = None
        self._frames: Iterator[VideoFrame] = iter(())

    def answer(self, request: Request, descriptor: int | None) -> object:
        """Do what is asked for.

        Raises:
            VideoReadError: The video cannot be read.
        """
        match request:
            case IdentityRequest():
                return identify(request.path)
            case ContentRequest():
                return read_content(request.path)
            case IndexRequest():
                self._last.close()
                self._index, self._opened = self._last.enter_context(
                    index_and_keep_open(request.path)
                )
                return self._index
            case FramesRequest():
                self._decode(request, descriptor)
                return None
            case CheckRequest():
                return self._check(request)

    def _decode(self, request: FramesRequest, descriptor: int | None) -> None:
        if request.index is not None:
            self._index, self._opened = request.index, None
        if descriptor is not None:
            self._memory = mmap.mmap(descriptor, request.memory_size)
            os.close(descriptor)
        assert self._index is not None
        assert self._memory is not None
        shape = pictures_shape(request.size, request.frame_indices)
        pictures = pictures_in(self._memory, shape)
        decode_frames(self._index, request.frame_indices, pictures, self._opened)

    def _check(self, request: CheckRequest) -> int:
        if not request.is_continued:
            self._frames = _frames_of(request.path)
        return sum(1 for _ in islice(self._frames, request.num_frames))


def _frames_of(path: str) -> Iterator[VideoFrame]:
    with open_video(path) as video:
        yield from decode_all(video)


def _receive(connection: socket.socket, length: int) -> bytes:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        received = connection.recv_into(view)
        if received == 0:
            raise EOFError
        view = view[received:]
    return bytes(data)
