"""``StoreConfig``: where visual tokens are stored and how. Nothing here imports torch."""

from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

from vidreason.ranges import check_ranges

StoredType = Literal["bfloat16", "float32", "int8"]
"""Number types that features are stored in."""


@dataclass(kw_only=True)
class StoreConfig:
    """Location and format of the stored visual tokens."""

    path: str = ""
    """Folder of the store, made when needed. Empty: no store, every video is perceived each
    time."""
    dtype: StoredType = "bfloat16"
    """Number type of the stored features. ``float32`` keeps every bit of what perception gave;
    ``bfloat16`` takes half the space, ``int8`` (with a scale a token) a quarter. Features are
    rounded whether they come from the store or were just put there. Each type has entries of its
    own. Rounding moved the microworld's tokens by 0.2 % (``bfloat16``) and 0.7 % (``int8``), as the
    median of relative errors, and the loss of four steps on them by at most 0.3 % in either case
    (``tests/experiments/test_store_speed.py``)."""
    shard_megabytes: int = 64
    """A process writes a shard when its waiting entries reach this size,"""
    flush_seconds: float = 60.0
    """or, if that is earlier, when one has waited this long and another comes. A killed process
    loses no more."""
    check_media: bool = True
    """True to compare a video's size and time of change with the recorded ones each time its
    content hash is asked for. ``false`` spares a slow file system or a web store that request; a
    video that was changed since is then not noticed."""

    def __post_init__(self) -> None:
        if self.dtype not in get_args(StoredType):
            known = ", ".join(get_args(StoredType))
            raise ValueError(f"store.dtype: expected {known}; found {self.dtype}")
        check_ranges("store", self, shard_megabytes=(1, inf), flush_seconds=(0, inf))
