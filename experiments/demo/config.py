"""``DemoConfig``: how large the demo is."""

from dataclasses import dataclass, field
from math import inf

from vidreason.microworld import parts
from vidreason.ranges import check_ranges

FORMS = (
    *("nextqa", "activitynet_qa", "causal_vid_instruct"),
    *("clevrer", "test_of_time", "nextgqa", "vcr"),
)
"""Readers of the forms that the microworld asks in."""
QUICK = (
    *("num_train_videos=8", "num_validation_videos=4", "num_test_videos=6"),
    *("questions_per_video=3", "num_shown_videos=2", "num_workers=0"),
    # The others balance their questions over more videos.
    "forms=[nextqa,activitynet_qa,causal_vid_instruct]",
    "stage1=[data.num_epochs=1,data.batch_size=4,data.global_batch_size=4]",
    "stage2=[data.num_epochs=1,data.batch_size=8,data.global_batch_size=8]",
    "both_stages=[optimizer.warmup_steps=1,trainer.log_every_n_steps=1,decoding.max_new_tokens=64]",
)
"""Overrides that ``quick=true`` stands for; other overrides win over it."""


@dataclass(kw_only=True)
class DemoConfig:
    """Sizes of the demo. Its training is configured in ``experiments/configs/microworld*.yaml``."""

    run_dir: str = "runs/demo"
    """Folder of everything that the demo writes."""
    quick: bool = False
    """The smallest demo, in which every part runs and little is learnt."""
    num_train_videos: int = 600
    num_validation_videos: int = 40
    num_test_videos: int = 60
    questions_per_video: int = 8
    """The most questions of each corpus about one video."""
    forms: list[str] = field(default_factory=lambda: list(FORMS))
    """Readers of the forms of questions that stage 2 learns and that are evaluated."""
    world_seed: int = 0
    """Another seed is another world of the same kind."""
    parts: str = str(parts.PARTS_FOLDER)
    """Folder of the three pre-trained parts, as ``experiments.pretrain_microworld`` writes it."""
    imagined_steps: int = 0
    """Steps of 64 videos for which the fusion core learns from imagined ones before stage 1; 0 for
    none."""
    tuning_steps: int = 0
    """Steps of 64 videos for which the reasoner goes on learning from imagined ones after stage 2;
    0 for none."""
    num_workers: int | None = None
    """Processes that perceive, and the most that learn from imagined videos; None for one per free
    core, 0 for the demo's own process."""
    num_shown_videos: int = 6
    """Test videos that are answered and shown in full."""
    both_stages: list[str] = field(default_factory=list)
    """Overrides for the configuration of both stages: ``both_stages=[seed=1]``."""
    stage1: list[str] = field(default_factory=list)
    """Overrides for stage 1 alone: ``stage1=[data.num_epochs=4]``."""
    stage2: list[str] = field(default_factory=list)
    """Overrides for stage 2 alone."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.forms) - set(FORMS))
        if unknown or not self.forms:
            raise ValueError(
                f"forms: found {unknown or 'none'}; name one or more of {', '.join(FORMS)}"
            )
        check_ranges(
            "",
            self,
            num_train_videos=(1, inf),
            num_validation_videos=(1, inf),
            num_test_videos=(2, inf),  # the shuffled control exchanges them
            questions_per_video=(1, inf),
            imagined_steps=(0, inf),
            tuning_steps=(0, inf),
            num_shown_videos=(1, max(self.num_test_videos, 1)),
        )
