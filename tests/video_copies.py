"""Copies of a video as others may have made them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_copy(
    source: Path,
    target: Path,
    *,
    first: float = 0.0,
    last: float = 1.0,
    mirrored: bool = False,
    scale: float = 1.0,
    gamma: float = 1.0,
    rate: int | None = None,
    crf: int = 18,
) -> Path:
    """Write the frames from share ``first`` to ``last`` of ``source``, changed."""
    with av.open(str(source)) as container:
        own_rate = int(float(container.streams.video[0].average_rate))
        pictures = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    pictures = pictures[round(first * len(pictures)) : round(last * len(pictures))]
    rate = rate or own_rate
    shown = [pictures[k * own_rate // rate] for k in range(len(pictures) * rate // own_rate)]
    height, width = (int(size * scale) for size in shown[0].shape[:2])
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(crf), "preset": "ultrafast", "threads": "1"}
        for picture in shown:
            changed = 255 * (picture / 255) ** gamma
            changed = np.ascontiguousarray((changed[:, ::-1] if mirrored else changed).astype("u1"))
            frame = av.VideoFrame.from_ndarray(changed, format="rgb24").reformat(width, height)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target
