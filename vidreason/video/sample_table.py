"""A container's own table of the packets of a stream, as far as libav does not give it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleTable:
    """The P packets of a track in the order of decoding, with the file's own ticks."""

    dts: NDArray[np.int64] | None
    """``(P,)`` decoding timestamps; None in Matroska, which has none."""
    pts: NDArray[np.int64]
    """``(P,)`` presentation timestamps, before an edit list moves them all alike."""
    sizes: NDArray[np.int64]
    """``(P,)`` in bytes."""
    is_shown: NDArray[np.bool_]
    """``(P,)`` whether the packet shows a picture, as far as the container's bytes tell."""
    is_key: NDArray[np.bool_]
    """``(P,)`` whether decoding can start here."""


class UnusualError(Exception):
    """A file holds something that is left to demuxing."""
