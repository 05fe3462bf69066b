"""The process that decodes for another one, so that it may be killed: started by the watchdog.

Requests and answers are pickles behind their length, over one socket. Decoded pictures go into
memory that both processes share, and that is used again for each video: fresh pages would cost more
than the copy that the parent makes.
"""

import math
import mmap
import os
import pickle
import signal
import socket
import struct
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidreason.video.container import OpenVideo
from vidreason.video.decoding import decode_frames
from vidreason.video.failures import VideoReadError
from vidreason.video.index import VideoIndex, index_and_keep_open

GRACE_SECONDS = 10
"""A request that is so much over its limit has nobody left who would kill this process."""


@dataclass(frozen=True, kw_only=True)
class IndexRequest:
    """Answered by the :class:`VideoIndex` of a file, or by its :class:`VideoReadError`."""

    path: str


@dataclass(frozen=True, kw_only=True)
class FramesRequest:
    """Answered by None with the pictures in the shared memory, or by a ``VideoReadError``."""

    index: VideoIndex | None
    """None for the last index that was asked for."""
    frame_indices: list[int]
    memory_size: int
    """Of the memory whose descriptor comes with this request, or 0 for that of the last one."""


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


def pictures_shape(index: VideoIndex, frame_indices: list[int]) -> tuple[int, int, int, int]:
    """The shape of the frames' RGB."""
    return len(frame_indices), index.height, index.width, 3


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks decides when to end
    index: VideoIndex | None = None
    opened: OpenVideo | None = None
    last = ExitStack()
    memory: mmap.mmap | None = None
    send(connection, Message("ready"))
    while True:
        try:
            (request, timeout_seconds), descriptor = receive(connection)
        except EOFError:
            return
        # Its default action ends the process whatever libav does at that moment.
        signal.setitimer(signal.ITIMER_REAL, timeout_seconds + GRACE_SECONDS)
        try:
            if isinstance(request, IndexRequest):
                last.close()
                index, opened = last.enter_context(index_and_keep_open(request.path))
                send(connection, Message(index))
            else:
                if request.index is not None:
                    index, opened = request.index, None
                if descriptor is not None:
                    memory = mmap.mmap(descriptor, request.memory_size)
                    os.close(descriptor)
                assert index is not None
                assert memory is not None
                shape = pictures_shape(index, request.frame_indices)
                decode_frames(index, request.frame_indices, pictures_in(memory, shape), opened)
                send(connection, Message(None))
        except VideoReadError as error:
            send(connection, Message(error))
        signal.setitimer(signal.ITIMER_REAL, 0)


def _receive(connection: socket.socket, length: int) -> bytes:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        received = connection.recv_into(view)
        if received == 0:
            raise EOFError
        view = view[received:]
    return bytes(data)
