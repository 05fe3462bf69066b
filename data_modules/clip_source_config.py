"""Configuration of where clips come from."""

import re
from dataclasses import dataclass
from math import inf
from typing import Literal

from data_modules.corpora import BUILT_IN_READERS, READER_GROUP
from vidreason.added_parts import check_part
from vidreason.ranges import ABOVE_0, check_ranges
from vidreason.video.media import is_remote

SourceKind = Literal["ego4d", "something_something", "folder", "corpus"]
Cut = Literal["scenes", "length", "whole"]

CUTS: dict[SourceKind, tuple[Cut, ...]] = {
    "ego4d": ("length",),
    "something_something": ("whole",),
    "folder": ("scenes", "length", "whole"),
    "corpus": ("whole", "length", "scenes"),
}
"""Ways to cut the videos of each kind, the default first: recordings of Ego4D are long and have no
cuts, videos of Something-Something are clips already."""

UNKNOWN_LICENCE = "unknown"
_LICENCES: dict[SourceKind, str] = {
    "ego4d": "ego4d",
    "something_something": "something-something-v2",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_SHORTEST_SECONDS = 0.5  # bounds the number of clips of a video


@dataclass(kw_only=True)
class ClipSourceConfig:
    """One source of clips."""

    kind: SourceKind
    """``ego4d``; ``something_something``; ``folder``: all videos below a folder; ``corpus``: the
    videos of a corpus that one of the readers reads, such as a microworld's."""
    root: str
    """Its folder; for a corpus what its reader takes."""
    name: str = ""
    """Name in ids and reports; empty for the kind. Letters, digits, ``_``, ``-`` and ``.``, at most
    40 and the first a letter or digit."""
    weight: float = 1.0
    """Its share of the clips, relative to the weights of the other sources."""
    licence: str = ""
    """Terms of its videos, as a tag such as ``CC0-1.0``; empty for those of Ego4D and
    Something-Something, for what a corpus' rows say, or else ``unknown``."""
    cut: Cut | None = None
    """``scenes``: clips end where the video is cut, which decodes it; ``length``: clips follow each
    other, whatever they show; ``whole``: a clip is a video, or the span that a corpus names. Null
    for ``length`` with Ego4D, ``scenes`` with a folder, else ``whole``."""
    min_seconds: float = 4.0
    """Shortest clip; without effect on whole videos."""
    max_seconds: float = 16.0
    """Longest clip; without effect on whole videos."""
    reader: str = ""
    """``corpus`` only: which reader, as in ``data.train``."""
    split: str = "train"
    """``corpus`` only: which split; its name has to begin with ``train``."""

    def __post_init__(self) -> None:
        """Check ranges, and that the fields fit together."""
        self.name = self.name or self.kind
        self.cut = self.cut or CUTS[self.kind][0]
        where = f"source {self.name!r}"
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name of a source is {self.name!r:.100}; it has at most 40 letters, digits, '_', "
                "'-' and '.', and begins with a letter or digit"
            )
        if not self.root:
            raise ValueError(f"{where}: root is empty; name its folder")
        check_ranges(
            where,
            self,
            weight=(ABOVE_0, inf),
            min_seconds=(_SHORTEST_SECONDS, inf),
            max_seconds=(self.min_seconds, inf),
        )
        # Infinity lies within ranges that have no upper end.
        if inf in (self.weight, self.min_seconds, self.max_seconds):
            raise ValueError(f"{where}: weight, min_seconds and max_seconds have to be finite")
        if self.cut not in CUTS[self.kind]:
            raise ValueError(
                f"{where}: cut is {self.cut!r}, which is not for kind {self.kind!r}; leave it out, "
                f"or choose {' or '.join(CUTS[self.kind])}"
            )
        self.licence = self.licence or _LICENCES.get(self.kind, "")
        self._check_corpus(where)

    def _check_corpus(self, where: str) -> None:
        if self.kind != "corpus":
            if self.reader or self.split != "train":
                raise ValueError(
                    f"{where}: reader and split are for kind 'corpus'; kind {self.kind!r} takes "
                    "training videos only: remove them"
                )
            if self.kind == "folder" and is_remote(self.root):
                raise ValueError(
                    f"{where}: root is a URL; kind 'folder' lists a folder of this machine: copy "
                    "it, or use kind 'corpus' with reader 'webdataset'"
                )
            return
        if self.reader in ("ego4d", "something_something"):
            raise ValueError(
                f"{where}: kind 'corpus' with reader {self.reader!r}; use kind {self.reader!r}, "
                "which leaves out what evaluation sets use"
            )
        check_part(f"{where}: reader", self.reader, READER_GROUP, BUILT_IN_READERS)
        if not self.split.startswith("train"):
            raise ValueError(
                f"{where}: split is {self.split!r}; clips are sampled from training splits only, "
                "whose names begin with 'train'"
            )
