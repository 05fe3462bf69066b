"""Videos as callers have them: files, addresses, bytes, frames in memory, or frames in files.

The reader reads files. What is none becomes one, without loss, so that a video gives the same
visual tokens in whatever form it is handed over.

Shapes: T frames, H and W their height and width.
"""

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from os import PathLike, fspath
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

Frames = NDArray[np.uint8] | torch.Tensor
VideoLike = str | PathLike[str] | bytes | Frames | Sequence[str | PathLike[str]]
"""A path or an address; the content of a file; frames ``(T, H, W, 3)`` or ``(T, 3, H, W)``, uint8,
RGB; or the paths of picture files in their order."""
_MAX_DENOMINATOR = 1001  # of NTSC's rates


def as_media(video: VideoLike, folder: Path, fps: float | None = None) -> str:
    """Return the path or address of a video; what is in memory is written into ``folder``.

    Args:
        video: In any of the forms of :data:`VideoLike`.
        folder: Where files may be written; one of the same content is written once.
        fps: Frames a second, where ``video`` is frames; no other form takes it.

    Raises:
        ValueError: It is none of these forms, its frames differ in size, or ``fps`` is missing or
            has no meaning.
    """
    # What is no frames is a file already, or becomes one by the name of its content.
    frames = _frames(video)
    if frames is None:
        if fps is not None:
            raise ValueError("fps: a file tells its own times; give it with frames alone")
        if isinstance(video, bytes):
            path = folder / hashlib.sha256(video).hexdigest()
            if not path.exists():
                path.write_bytes(video)
            return str(path)
        if isinstance(video, str | PathLike):
            return fspath(video)
        raise ValueError(
            "video: expected a path, an address, bytes, frames (T, H, W, 3) as uint8, or a list of "
            f"picture files; found {type(video).__name__}"
        )
    if fps is None or not 0 < fps < float("inf"):
        raise ValueError(f"fps: frames have no times of their own; found {fps}, give their rate")
    # The same frames at another rate are another video.
    name = hashlib.sha256(frames.tobytes() + f"{frames.shape} {fps}".encode()).hexdigest()
    path = folder / f"{name}.mkv"
    if not path.exists():
        write_frames(frames, fps, path)
    return str(path)


def write_frames(frames: NDArray[np.uint8], fps: float, path: Path) -> None:
    """Write frames ``(T, H, W, 3)``, uint8, as a video without loss (FFV1 in Matroska)."""
    rate = Fraction(fps).limit_denominator(_MAX_DENOMINATOR)
    with av.open(str(path), "w", format="matroska") as container:
        stream = cast(Any, container.add_stream("ffv1", rate=rate))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"  # no chroma is halved
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _frames(video: VideoLike) -> NDArray[np.uint8] | None:
    """Return ``(T, H, W, 3)``; None where ``video`` is no frames."""
    if isinstance(video, torch.Tensor):
        return _checked(video.detach().cpu().numpy())
    if isinstance(video, np.ndarray):
        return _checked(video)
    if isinstance(video, Sequence) and not isinstance(video, str | bytes):
        return _checked(_read_pictures(video))
    return None


def _read_pictures(paths: Sequence[str | PathLike[str]]) -> NDArray[Any]:
    pictures: list[NDArray[np.uint8]] = []
    for path in paths:
        if not isinstance(path, str | PathLike):
            raise ValueError(
                f"video: a list holds paths of picture files; found {type(path).__name__}"
            )
        try:
            with Image.open(path) as picture:
                pictures.append(np.asarray(picture.convert("RGB")))
        except (OSError, Image.DecompressionBombError) as error:
            raise ValueError(
                f"video: the picture {fspath(path)!r} cannot be read: {error}; a list holds the "
                "pictures of one video, and several videos are asked about one by one"
            ) from None
        if pictures[-1].shape != pictures[0].shape:
            raise ValueError(
                f"video: the picture {fspath(path)!r} is {_size(pictures[-1])}, the first one "
                f"{_size(pictures[0])}; scale them to one size"
            )
    return np.stack(pictures) if pictures else np.zeros((0, 1, 1, 3), dtype=np.uint8)


def _checked(frames: NDArray[Any]) -> NDArray[np.uint8]:
    if frames.ndim == 4 and frames.shape[-1] != 3 and frames.shape[1] == 3:
        frames = frames.transpose(0, 2, 3, 1)  # (T, 3, H, W) -> (T, H, W, 3)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(
            "video: expected at least one frame, (T, H, W, 3) or (T, 3, H, W), uint8; found shape "
            f"{frames.shape}, {frames.dtype}"
        )
    return frames


def _size(picture: NDArray[np.uint8]) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"
