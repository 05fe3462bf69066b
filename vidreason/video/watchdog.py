"""Reading a video in a process that can be killed: libav's code cannot be interrupted otherwise.

A damaged file may send a decoder into an endless loop, or crash it; a network store may never
answer. So each process that reads videos (a data loader's worker, ``perceive``) has one decoder
process, started with the first video, which also hashes videos for the store. When a video takes
longer than its limit, the decoder is killed, the video counts as unreadable, and the next one gets
a new decoder. Frames come through shared memory; ``python -m experiments.benchmark decode``
measures what all this costs.

``multiprocessing`` cannot start this process: a data loader's worker is daemonic, and must not have
children of that kind.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from multiprocessing import Pipe, util
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidreason.video.decoder_process import IGNORED_SIGNALS, Call, Failure, SharedPictures
from vidreason.video.failures import VideoReadError
from vidreason.video.index import VideoIndex
from vidreason.video.reading_errors import reading_errors

START_SECONDS = 120.0
"""Time that Python may take to start a decoder and import what it needs."""

STOP_SECONDS = 5.0
"""Time that a killed decoder is waited for."""

_PROGRAM = """
import sys
from multiprocessing.connection import Connection
from vidreason.video.decoder_process import SharedPictures, serve
serve(Connection(int(sys.argv[1])), SharedPictures(int(sys.argv[2])))
"""

_lock = threading.Lock()
_decoder: "_Decoder | None" = None


def call(function: str, path: str, *arguments: object, timeout_seconds: float) -> Any:  # noqa: ANN401 - the function's
    """Call ``function(path, *arguments)`` in the decoder process.

    Args:
        function: A name in the table of :func:`vidreason.video.decoder_process.serve`.
        path: The video.
        arguments: Further ones, which can be pickled.
        timeout_seconds: The decoder is killed after this time.

    Returns:
        The function's result.

    Raises:
        VideoReadError: As the function; or the time is up, or the decoder process crashed.
    """
    with _lock:
        return _running_decoder().call(path, function, (path, *arguments), timeout_seconds)


def decode_frames(
    index: VideoIndex, frame_indices: list[int], shape: tuple[int, ...], timeout_seconds: float
) -> NDArray[np.uint8]:
    """:func:`vidreason.video.decoding.decode_frames` in the decoder process.

    Returns:
        ``(n, H, W, 3)`` RGB of the given shape.

    Raises:
        VideoReadError: As for :func:`call`.
    """
    with _lock:
        return _running_decoder().decode_frames(index, frame_indices, shape, timeout_seconds)


def decoder_process_id() -> int | None:
    """The running decoder of this process, for those who count its CPU time."""
    if _decoder is None or not _decoder.is_running():
        return None
    return _decoder.process_id


def _running_decoder() -> "_Decoder":
    """This process' decoder; a forked process must not share its parent's."""
    global _decoder
    if _decoder is not None and _decoder.is_running() and _decoder.folder != _working_folder():
        _decoder.stop()  # it would look for relative paths where this process no longer is
    if _decoder is None or not _decoder.is_running():
        _decoder = _Decoder()
    return _decoder


def _working_folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed
        return None


class DecoderProcessError(Exception):
    """The traceback, as text, of what went wrong in the decoder process: the cause of an error."""


class _Decoder:
    """A decoder process, as its parent sees it."""

    def __init__(self) -> None:
        self._known_index: VideoIndex | None = None
        self._owner = os.getpid()
        self.folder = _working_folder()
        self._pictures = SharedPictures()
        self._connection, other_end = Pipe()
        # The child inherits what is blocked here, and ends that once it ignores them.
        former = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED_SIGNALS)
        try:
            self._process = _start_process(other_end.fileno(), self._pictures.descriptor)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)
            other_end.close()
        # Also at the end of a data loader's worker, where atexit does nothing.
        self.stop = util.Finalize(
            self, _stop, args=(self._connection, self._pictures, self._process), exitpriority=0
        )
        try:
            self._receive(START_SECONDS)
        except (EOFError, OSError) as error:
            self.stop()
            raise RuntimeError(
                "the process that decodes videos does not start; what it says is on stderr"
            ) from error

    @property
    def process_id(self) -> int:
        """Process id of the decoder."""
        return self._process.pid

    def is_running(self) -> bool:
        """Return whether it is alive, and this process' own."""
        if self._owner != os.getpid():
            self._process.returncode = 0  # the parent's to wait for, not ours
            self._connection.close()
            self._pictures.close()
            return False
        return self.stop.still_active() and self._process.poll() is None

    def decode_frames(
        self, index: VideoIndex, frame_indices: list[int], shape: tuple[int, ...], limit: float
    ) -> NDArray[np.uint8]:
        """The frames' RGB, in memory of this process."""
        with reading_errors(index.path):
            shared = self._pictures.array(shape)
        # The index of a long video is megabytes: the one that came last is not sent back.
        sent = None if index is self._known_index else index
        self._known_index = index
        self.call(index.path, "decode_frames", (sent, frame_indices, shape), limit)
        with reading_errors(index.path):
            return shared.copy()

    def call(self, path: str, function: str, arguments: tuple[object, ...], limit: float) -> Any:  # noqa: ANN401
        """Wait for the answer to a call about the video ``path``."""
        try:
            self._connection.send(Call(function, arguments, path, limit))
            answer = self._receive(limit)
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
            raise answer.error from (DecoderProcessError(answer.cause) if answer.cause else None)
        if isinstance(answer, VideoIndex):
            self._known_index = answer
        return answer

    def _receive(self, limit: float) -> Any:  # noqa: ANN401
        if not self._connection.poll(limit):
            raise TimeoutError
        return self._connection.recv()


def _start_process(*descriptors: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *map(str, descriptors)],
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        # It must find this package wherever this process found it.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
    )


def _stop(
    connection: Connection, pictures: SharedPictures, process: "subprocess.Popen[bytes]"
) -> None:
    connection.close()
    pictures.close()
    process.kill()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        # It waits in the kernel for a disk that does not answer. The kill takes effect when that
        # ends; no other process has to wait.
        process.returncode = -signal.SIGKILL


def _last_words(process: "subprocess.Popen[bytes]") -> str:
    status = process.returncode
    how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
    return f"the process that decoded it ended {how}"
