"""``MakeInstructionsConfig``: which clips, who answers, and what is accepted."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from data_modules.clip_source_config import ClipSourceConfig
from data_modules.corpora import CorpusConfig
from data_modules.teacher_free_config import TeacherFreeConfig
from vidreason.evidence.config import VerifierConfig
from vidreason.ranges import BELOW_1, check_ranges
from vidreason.teacher.config import TeacherConfig
from vidreason.teacher.gate_config import GateConfig
from vidreason.teacher.running_config import RunningConfig


@dataclass(kw_only=True)
class MakeInstructionsConfig:
    """Which clips, who answers, and what is accepted."""

    run_dir: str = "runs/instructions"
    """Folder of everything that is written."""
    answers: Literal["teacher", "templates", "continuation"] = "teacher"
    """Whence explanations and predictions come: a ``teacher`` model; ``templates`` over
    annotations; or the ``continuation`` of each video itself."""
    sources: list[ClipSourceConfig] = field(default_factory=list)
    """Where clips are sampled."""
    num_clips: int = 1000
    """Clips of all sources together."""
    validation_fraction: float = 0.02
    """Part of the videos whose rows go to ``val.jsonl``."""
    exclude: list[CorpusConfig] = field(default_factory=list)
    """Evaluation corpora none of whose videos, pictures or texts may be in the set."""
    exclude_pictures: bool = True
    """Compare pictures with those of ``exclude`` too, which decodes some frames of each clip that
    is sampled, and of each evaluation video; without it, ids, files and texts alone."""
    seed: int = 0
    """Seed of the sample."""
    dry_run: bool = False
    """Sample the clips and say what the run would cost, and send nothing."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    teacher_free: TeacherFreeConfig = field(default_factory=TeacherFreeConfig)
    running: RunningConfig = field(default_factory=RunningConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    verifier: VerifierConfig = field(default_factory=VerifierConfig)

    def __post_init__(self) -> None:
        """Check ranges."""
        check_ranges("", self, num_clips=(1, inf), validation_fraction=(0, BELOW_1))
