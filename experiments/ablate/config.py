"""``StudyConfig``: the variants and seeds of an ablation study.

Section 5.3 of the paper takes one thing away at a time. Here each such variant is a few overrides
of the two stages' configurations; a new one needs no code (``variants.NAME.both_stages=[...]``).
"""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from experiments.demo.config import DemoConfig
from vidreason.evaluation.config import Control
from vidreason.ranges import check_ranges

FULL = "full"
"""The variant that all others are compared with."""
Stage = Literal["stage1", "stage2"]
STAGES: tuple[Stage, ...] = ("stage1", "stage2")


@dataclass(kw_only=True)
class Variant:
    """One row of the table: what is changed against the full system."""

    title: str = ""
    """Name in the table; empty for the variant's key."""
    source: Literal["paper", "ours"] = "ours"
    """Who has it: the paper's table or this project."""
    both_stages: list[str] = field(default_factory=list)
    """Overrides of both stages' configurations, such as ``reasoner.fusion.kind=mean_pool``."""
    stage1: list[str] = field(default_factory=list)
    """Overrides of stage 1 alone."""
    stage2: list[str] = field(default_factory=list)
    """Overrides of stage 2 alone."""
    without_corpora: list[str] = field(default_factory=list)
    """Readers whose corpora are not trained on."""
    smaller_language_model: bool = False
    """True if the language model is ``smaller_language_model``."""
    stages: Literal["both", "stage1", "stage2"] = "both"
    """Which stages are trained; the last of them is evaluated."""


def default_variants() -> dict[str, Variant]:
    """The paper's table (section 5.3) and ours."""
    return {
        FULL: Variant(title="full"),
        "no_fusion_core": Variant(
            title="w/o fusion core (mean pooling + linear)",
            source="paper",
            both_stages=["reasoner.fusion.kind=mean_pool"],
        ),
        "no_objects": Variant(
            title="w/o object features", source="paper", both_stages=["perceiver.kept_objects=0"]
        ),
        "no_stage2": Variant(title="w/o stage 2", source="paper", stages="stage1"),
        "no_synthetic_data": Variant(
            title="w/o synthetic data", source="paper", without_corpora=["causal_vid_instruct"]
        ),
        "smaller_llm": Variant(title="smaller LLM", source="paper", smaller_language_model=True),
        "no_token_positions": Variant(
            title="w/o token positions", both_stages=["reasoner.fusion.token_positions=none"]
        ),
        "no_stage1": Variant(title="w/o stage 1", stages="stage2"),
        "queries_8": Variant(title="8 queries", both_stages=["reasoner.fusion.num_queries=8"]),
        "objects_2": Variant(
            title="2 objects a key frame", both_stages=["perceiver.kept_objects=2"]
        ),
    }


@dataclass(kw_only=True)
class MicroworldStudy:
    """The study on the embedded world, which it writes and perceives itself."""

    demo: DemoConfig = field(default_factory=DemoConfig)
    """Sizes of the world, and overrides of the shipped configurations. Its ``run_dir`` is not
    read, and a study imagines no videos: variants differ in what the stages learn."""
    smaller_width: int = 96
    """Width of the smaller language model, which the study pre-trains; the shipped one has 192."""
    smaller_layers: int = 2
    """The shipped one has 6."""
    smaller_steps: int = 1500
    """Steps of its pre-training, of 64 texts each."""


@dataclass(kw_only=True)
class StudyConfig:
    """A study: its variants, its seeds, and what they are variants of."""

    run_dir: str = "runs/ablation"
    """Folder of everything that the study writes."""
    stage1: list[str] = field(default_factory=list)
    """YAML files of stage 1; a later one wins."""
    stage2: list[str] = field(default_factory=list)
    """YAML files of stage 2. Its ``data.benchmark`` is what all variants answer."""
    both_stages: list[str] = field(default_factory=list)
    """Overrides of both, in all variants; ``stage1`` and ``stage2`` win over them."""
    microworld: MicroworldStudy | None = None
    """For a study on the microworld, instead of ``stage1`` and ``stage2``."""
    benchmark: list[str] = field(default_factory=list)
    """Readers of further corpora of stage 2's ``data.train``, whose split ``test`` is answered
    too."""
    smaller_language_model: str = ""
    """Folder or repository of the smaller LLM; empty on the microworld for one of its own."""
    variants: dict[str, Variant] = field(default_factory=default_variants)
    """By name. Files and overrides add to these."""
    only: list[str] = field(default_factory=list)
    """Names of the variants to run beside ``full``; empty for all."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Each is one run of every variant, of new weights and another order of the samples."""
    full_controls: list[Control] = field(default_factory=lambda: ["blind"])
    """Control rows of the full system."""
    max_parallel: int = 1
    """Programs at a time."""
    threads: int = 1
    """Threads of each program. On 2 cores, two programs of one thread do more than one of two."""
    submit: Literal["", "print", "sbatch"] = ""
    """``print`` only says what would be run; ``sbatch`` hands it to SLURM, and the same command
    makes the table when all jobs are done."""
    sbatch_options: list[str] = field(default_factory=list)
    """Further options of sbatch, such as ``--nodes=1``."""

    def __post_init__(self) -> None:
        if FULL not in self.variants:
            raise ValueError(f"variants: there is no {FULL!r}, which all others are compared with")
        unknown = [name for name in self.only if name not in self.variants]
        if unknown:
            raise ValueError(f"only: unknown variants {unknown}; known are {list(self.variants)}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: expected one or more different ones, found {self.seeds}")
        check_ranges("", self, max_parallel=(1, inf), threads=(1, inf))
        if self.microworld is None and not (self.stage1 and self.stage2):
            raise ValueError(
                "stage1 and stage2 are empty: name the YAML files of the two stages, or start from "
                "--config experiments/configs/ablations/microworld.yaml"
            )
        if self.microworld is not None and (self.stage1 or self.stage2):
            raise ValueError(
                "stage1 and stage2 name YAML files, but a microworld study has its own"
            )
