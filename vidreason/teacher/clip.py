"""A clip that a teacher is asked about."""

import hashlib
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A span of a video, and all that is known of it without looking at it."""

    source: str
    """Name of the source that it was sampled from, such as ``ego4d``: letters, digits, ``_``, ``-``
    and ``.``, beginning with a letter or a digit."""
    video_id: str
    """The source's id of the video; any text. All clips of a video are in one split."""
    media: str
    """Path or URL of the video."""
    start_seconds: float | None = None
    """Start of the span, or None for the start of the video."""
    end_seconds: float | None = None
    """End of the span, or None for the end of the video."""
    split: Literal["train", "val"] = "train"
    """Part of the produced set that the clip's rows go to."""
    scenario: str = ""
    """Stratum within the source, such as a scenario of Ego4D or a template of Something-Something;
    empty for none."""
    licence: str = ""
    """Terms of the video, as a tag such as ``CC0-1.0`` or ``ego4d``."""
    reference: str = ""
    """Text of the source's annotations about the span. It is never shown to a teacher; the gate and
    the bias page compare with it."""

    @property
    def id(self) -> str:
        """Name of the clip in files and pages: its source, and a hash of video and span."""
        span = f"{self.start_seconds!r}:{self.end_seconds!r}"
        identity = f"{self.source}\0{self.video_id}\0{span}"
        # A file's name that is not UTF-8 has halves of surrogate pairs.
        digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self.source}-{digest[:16]}"
