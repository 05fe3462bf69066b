"""Reading a video in a process that can be killed: libav's code cannot be interrupted otherwise.

A damaged file may send a decoder into an endless loop, or crash it; a network store may never
answer. So each process that reads videos (a data loader's worker, ``perceive``) has one decoder
process, started with the first video, which also hashes videos for the store. When a video takes
longer than its limit, the decoder is killed, the video counts as unreadable, and the next one gets
a new decoder. Frames come through shared memory; ``python -m experiments.benchmark decode``
measures what all this costs.
"""

import contextlib
import math
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from multiprocessing import util
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vidreason.video.decoder_process import (
    IGNORED_SIGNALS,
    CheckRequest,
    ContentRequest,
    Failure,
    FramesRequest,
    IdentityRequest,
    IndexRequest,
    Message,
    Request,
    pictures_in,
    pictures_shape,
    receive,
    send,
    shared_memory,
)
from vidreason.video.failures import VideoReadError
from vidreason.video.index import VideoIndex
from vidreason.video.media import MediaIdentity
from vidreason.video.media_content import MediaContent
from vidreason.video.reading_errors import reading_errors

DECODE_TIMEOUT_SECONDS = 120.0
"""Default limit: fifty times what 32 frames of a 720p video take on one core."""

START_SECONDS = 120.0
"""How long Python may take to start a decoder and import what it needs."""

STOP_SECONDS = 5.0
"""How long a killed decoder is waited for."""

CHECKED_AT_ONCE = 250
"""Frames that are decoded within one limit where a whole video, of any length, is decoded."""

_PROGRAM = """
import socket, sys
from vidreason.video.decoder_process import serve
serve(socket.socket(fileno=int(sys.argv[1])))
"""

Pictures = NDArray[np.uint8]

_lock = threading.Lock()
_decoder: "_Decoder | None" = None


def identify(media: str, timeout_seconds: float) -> MediaIdentity:
    """:func:`vidreason.video.media_content.identify`, given up after ``timeout_seconds``.

    Raises:
        VideoReadError: As there; or the time is up, or the decoder process died.
    """
    with _lock:
        answer = _running_decoder().ask(media, IdentityRequest(path=media), timeout_seconds)
    return cast(MediaIdentity, answer)


def read_content(media: str, timeout_seconds: float) -> MediaContent:
    """:func:`vidreason.video.media_content.read_content`, given up after ``timeout_seconds``.

    Raises:
        VideoReadError: As there; or the time is up, or the decoder process died.
    """
    with _lock:
        answer = _running_decoder().ask(media, ContentRequest(path=media), timeout_seconds)
    return cast(MediaContent, answer)


def check_frames(path: str, timeout_seconds: float) -> None:
    """Decode every frame, and give up when ``CHECKED_AT_ONCE`` take longer than the limit.

    Raises:
        VideoReadError: A frame is damaged; or the time is up, or the decoder process died.
    """
    with _lock:
        decoder = _running_decoder()
        is_continued = False
        num_frames = CHECKED_AT_ONCE
        while num_frames == CHECKED_AT_ONCE:
            request = CheckRequest(path=path, is_continued=is_continued, num_frames=CHECKED_AT_ONCE)
            num_frames = cast(int, decoder.ask(path, request, timeout_seconds))
            is_continued = True


def index_video(path: str, timeout_seconds: float) -> VideoIndex:
    """:func:`vidreason.video.index.index_video`, given up after ``timeout_seconds``.

    Raises:
        VideoReadError: As there; or the time is up, or the decoder process died.
    """
    with _lock:
        return _running_decoder().index(path, timeout_seconds)


def decode_frames(
    index: VideoIndex, frame_indices: list[int], size: tuple[int, int], timeout_seconds: float
) -> Pictures:
    """:func:`vidreason.video.decoding.decode_frames`, given up after ``timeout_seconds``.

    Returns:
        ``(n, H, W, 3)`` RGB, of the width and height ``size``.

    Raises:
        VideoReadError: As there; or the time is up, or the decoder process died.
    """
    with _lock:
        return _running_decoder().decode(index, frame_indices, size, timeout_seconds)


def decoder_process_id() -> int | None:
    """The running decoder of this process, for those who count its CPU time."""
    if _decoder is None or not _decoder.is_running():
        return None
    return _decoder.process_id


def _running_decoder() -> "_Decoder":
    """This process' decoder; a forked process must not share its parent's."""
    global _decoder
    if _decoder is None or not _decoder.is_running():
        _decoder = _Decoder()
    return _decoder


class DecoderProcessError(Exception):
    """The traceback, as text, of what went wrong in the decoder process: the cause of an error."""


class _Decoder:
    """A decoder process, as its parent sees it."""

    def __init__(self) -> None:
        self._last_index: VideoIndex | None = None
        self._memory: mmap.mmap | None = None
        self._owner = os.getpid()
        self._connection, other_end = socket.socketpair()
        with other_end:
            # The child inherits what is blocked here, and ends that once it ignores them.
            former = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED_SIGNALS)
            try:
                self._process = _start_process(other_end)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, former)
        # Also at the end of a data loader's worker, where atexit does nothing.
        self.stop = util.Finalize(
            self, _stop, args=(self._connection, self._process), exitpriority=0
        )
        self._connection.settimeout(START_SECONDS)
        try:
            receive(self._connection)
        except (EOFError, OSError) as error:
            self.stop()
            raise RuntimeError(
                "the process that decodes videos does not start; what it says is on stderr"
            ) from error

    @property
    def process_id(self) -> int:
        """Of the decoder."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether it is this process' own, and alive."""
        if self._owner != os.getpid():
            self._process.returncode = 0  # the parent's to wait for, not ours
            self._connection.close()
            return False
        return self.stop.still_active() and self._process.poll() is None

    def index(self, path: str, limit: float) -> VideoIndex:
        """The index of a video."""
        self._last_index = None
        answer = self.ask(path, IndexRequest(path=path), limit)
        self._last_index = cast(VideoIndex, answer)
        return self._last_index

    def decode(
        self, index: VideoIndex, frame_indices: list[int], size: tuple[int, int], limit: float
    ) -> Pictures:
        """The frames' RGB."""
        is_known = index is self._last_index
        self._last_index = index
        shape = pictures_shape(size, frame_indices)
        num_bytes, descriptor = 0, None
        if self._memory is None or len(self._memory) < math.prod(shape):
            num_bytes = math.prod(shape)
            with reading_errors(index.path):
                descriptor, self._memory = shared_memory(num_bytes)
        try:
            request = FramesRequest(
                path=index.path,
                index=None if is_known else index,
                frame_indices=frame_indices,
                size=size,
                memory_size=num_bytes,
            )
            self.ask(index.path, request, limit, descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        with reading_errors(index.path):
            return pictures_in(self._memory, shape).copy()

    def ask(
        self,
        path: str,
        request: Request,
        limit: float,
        descriptor: int | None = None,
    ) -> object:
        """Wait for the answer to a request about the video ``path``."""
        self._connection.settimeout(limit)
        try:
            send(self._connection, Message((request, limit), descriptor))
            answer = receive(self._connection).content
        except TimeoutError as error:
            self.stop()
            raise VideoReadError(path, "timed-out", f"timed out after {limit:g} s") from error
        except (EOFError, ConnectionError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)  # for its own exit status
            self.stop()
            raise VideoReadError(path, "crashed", _last_words(self._process)) from error
        except BaseException:  # such as Ctrl-C: the answer to come belongs to no later question
            self.stop()
            raise
        if isinstance(answer, Failure):
            if answer.cause:
                raise answer.error from DecoderProcessError(answer.cause)
            raise answer.error
        return answer


def _start_process(connection: socket.socket) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(connection.fileno())],
        pass_fds=[connection.fileno()],
        stdin=subprocess.DEVNULL,
        # It must find this package wherever this process found it.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
    )


def _stop(connection: socket.socket, process: "subprocess.Popen[bytes]") -> None:
    connection.close()
    process.kill()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        # It waits in the kernel for a disk that does not answer. The kill takes effect when that
        # ends; nobody else has to wait.
        process.returncode = -signal.SIGKILL


def _last_words(process: "subprocess.Popen[bytes]") -> str:
    status = process.returncode
    how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
    return f"the process that decoded it ended {how}"
