"""Configuration of instruction sets that no teacher makes: templates and continuations."""

from dataclasses import dataclass, field
from math import inf

from data_modules.corpora import CorpusConfig
from vidreason.ranges import ABOVE_0, check_ranges


@dataclass(kw_only=True)
class SpanRules:
    """Bounds of the clips that are cut out of annotated videos."""

    gap_seconds: float = 0.5
    """Time between the end of a clip and the start of what is to be predicted: annotated times are
    not exact, and the clip must not show it."""
    horizon_seconds: float = 10.0
    """Longest time between the end of the last annotated event of a clip and the start of what is
    to be predicted; what comes later does not follow from it."""
    max_clip_seconds: float = 60.0
    """Longest clip. Earlier events are left out of it."""
    min_clip_seconds: float = 4.0
    """Shortest clip before a prediction, unless the video begins later: it then also shows what was
    not annotated."""
    max_steps: int = 8
    """Most events of a clip; the last ones stay."""

    def __post_init__(self) -> None:
        """Check ranges."""
        check_ranges(
            "spans",
            self,
            gap_seconds=(ABOVE_0, inf),
            horizon_seconds=(ABOVE_0, inf),
            max_clip_seconds=(ABOVE_0, inf),
            min_clip_seconds=(0, self.max_clip_seconds),
            max_steps=(1, inf),
        )
        if self.gap_seconds > self.horizon_seconds:
            raise ValueError(
                f"spans.gap_seconds is {self.gap_seconds:g}; it must be at most "
                f"spans.horizon_seconds ({self.horizon_seconds:g})"
            )


@dataclass(kw_only=True)
class TeacherFreeConfig:
    """Annotated corpora that answers are made of, and how."""

    corpora: list[CorpusConfig] = field(default_factory=list)
    """Training splits of annotated corpora. Weights share the clips out among them; a corpus that
    has fewer clips than its share leaves the rest to the others."""
    spans: SpanRules = field(default_factory=SpanRules)

    def __post_init__(self) -> None:
        """Refuse splits that models are evaluated on."""
        for corpus in self.corpora:
            if corpus.split != "train":
                raise ValueError(
                    f"teacher_free.corpora: {corpus} is no training split; answers are made of "
                    "split 'train' alone"
                )
