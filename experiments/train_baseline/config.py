"""``TrainBaselineConfig``: which baseline is trained, and on what."""

from dataclasses import dataclass, field

from experiments.program import Run, lazy
from experiments.train_baseline.anticipation_config import AnticipationTrainingConfig
from vidreason.ranges import check_ranges

KINDS: dict[str, Run] = {
    "anticipation": lazy("experiments.train_baseline.anticipation:train_anticipation"),
}
"""By the kind of a baseline (:data:`vidreason.baselines.config.Kind`), what trains it."""


@dataclass(kw_only=True)
class TrainBaselineConfig:
    """Which baseline is trained, and on what; each kind has a section of its own."""

    kind: str = "anticipation"
    """A key of ``KINDS``."""
    run_dir: str = "runs/baseline"
    """Folder of everything that is written."""
    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1``, or ``auto``: CUDA where there is one."""
    seed: int = 0
    """Of the weights at the start and of the order of the samples."""
    anticipation: AnticipationTrainingConfig = field(default_factory=AnticipationTrainingConfig)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; it is one of {', '.join(KINDS)}")
        check_ranges("", self, seed=(0, 2**32 - 1))
        if self.kind == "anticipation":
            self.anticipation.check_data()
