"""``TrainBaselineConfig``: which baseline is trained, and on what."""

from dataclasses import dataclass, field

from experiments.program import Run, lazy
from experiments.train_baseline.anticipation_config import AnticipationTrainingConfig
from experiments.train_baseline.mcvd_config import McvdTrainingConfig
from experiments.train_baseline.sevila_config import SevilaLocalizerConfig
from experiments.train_baseline.vjepa2_config import VJepa2PretrainingConfig, VJepa2ProbeConfig
from vidreason.ranges import check_ranges

KINDS: dict[str, Run] = {
    "anticipation": lazy("experiments.train_baseline.anticipation:train_anticipation"),
    "vjepa2_pretraining": lazy("experiments.train_baseline.vjepa2_pretraining:pretrain_vjepa2"),
    "vjepa2": lazy("experiments.train_baseline.vjepa2_probe:train_vjepa2_probe"),
    "mcvd": lazy("experiments.train_baseline.mcvd:train_mcvd"),
    "sevila_localizer": lazy("experiments.train_baseline.sevila_localizer:train_sevila_localizer"),
}
"""By the kind of a baseline (:data:`vidreason.baselines.config.KINDS`), or of a part of one,
what trains it."""


@dataclass(kw_only=True)
class TrainBaselineConfig:
    """Which baseline is trained, and on what; each kind has a section of its own."""

    kind: str = "anticipation"
    """A key of ``KINDS``."""
    run_dir: str = "runs/baseline"
    """Folder of everything that is written."""
    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1``, or ``auto``: CUDA where there is one."""
    num_workers: int = 0
    """Processes that read videos or latents; 0 reads in the training process, as ``anticipation``
    always does."""
    seed: int = 0
    """Seed of the weights at the start and of the order of the samples."""
    anticipation: AnticipationTrainingConfig = field(default_factory=AnticipationTrainingConfig)
    vjepa2_pretraining: VJepa2PretrainingConfig = field(default_factory=VJepa2PretrainingConfig)
    vjepa2: VJepa2ProbeConfig = field(default_factory=VJepa2ProbeConfig)
    mcvd: McvdTrainingConfig = field(default_factory=McvdTrainingConfig)
    sevila_localizer: SevilaLocalizerConfig = field(default_factory=SevilaLocalizerConfig)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; it is one of {', '.join(KINDS)}")
        check_ranges("", self, seed=(0, 2**32 - 1), num_workers=(0, 1024))
        # Sections of other kinds may be empty, as they are without a configuration.
        match self.kind:
            case "anticipation":
                self.anticipation.check_data()
            case "vjepa2_pretraining":
                self.vjepa2_pretraining.data.check_train(self.kind)
            case "vjepa2":
                self.vjepa2.check_encoder()
                self.vjepa2.data.check_train(self.kind)
            case "mcvd":
                self.mcvd.data.check_train(self.kind)
            case "sevila_localizer":
                self.sevila_localizer.check_answerer()
                self.sevila_localizer.data.check_train(self.kind)
