"""``ReviewInstructionsConfig``: which set is reviewed, and what the page shows of it."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from vidreason.ranges import check_ranges


@dataclass(kw_only=True)
class ReviewInstructionsConfig:
    """Which set is reviewed, and what the page shows of it."""

    run_dir: str = "runs/instructions"
    """Folder of the set, with ``train.jsonl``, ``val.jsonl``, ``rejected.jsonl`` and ``videos``."""
    output: str = ""
    """Folder of what is written; empty for ``<run_dir>/review``, and ``<run_dir>/reviewed`` for
    ``apply``."""
    reviews: list[str] = field(default_factory=list)
    """Review files for ``agreement`` and ``apply``; none for all of ``<run_dir>/reviews``."""
    num_rows: int = 100
    """Rows on the page."""
    rejected_fraction: float = 0.3
    """Share of them that the quality gate rejected, evenly over its causes."""
    seed: int = 0
    """Seed of the sample, and of its order."""
    num_frames: int = 8
    """Frames of a clip, at the middles of as many equal parts."""
    frames: Literal["all", "shareable", "none"] = "all"
    """Clips of which frames are shown: ``shareable`` means those under CC0, CC BY or CC BY-SA
    alone, for a page that is passed on."""
    media_dir: str = ""
    """A further folder that videos may be in, besides ``run_dir``, such as where links in
    ``videos`` point."""
    max_page_mb: float = 64.0
    """Size of the page; frames that are beyond are left out."""
    hide_verdicts: bool = False
    """Show the gate's verdict on a row, and its remarks, after its review only, so that reviewers
    are not led by it."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not self.run_dir:
            raise ValueError("run_dir is empty; name the folder of the set")
        check_ranges(
            "",
            self,
            num_rows=(1, 5000),
            rejected_fraction=(0, 1),
            num_frames=(1, 64),
            max_page_mb=(1, 1024),
            seed=(0, inf),
        )
