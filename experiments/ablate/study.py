"""What an ablation study runs: variants times seeds, as jobs that share what is equal in them.

Section 5.3 of the paper takes one thing away at a time. Here each such variant is a few overrides
of the two stages' configurations; a new one needs no code (``variants.NAME.both_stages=[...]``).
"""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data_modules.corpora import CorpusConfig
from experiments.demo.run import DemoConfig, stage_experiment
from experiments.experiment_config import ExperimentConfig
from experiments.fit.resume import checkpoint_folder
from experiments.fit.resume_rules import learnt_settings
from experiments.jobs import Job, experiment_job, job_folder, job_key
from experiments.kept_runs import predictions_file
from experiments.pretrain_microworld import STEPS
from experiments.trained_model import REASONER_FOLDER
from vidreason.config import merge_config
from vidreason.evaluation.controls import Control
from vidreason.microworld import parts
from vidreason.training.checkpoint import LAST_CHECKPOINT

FULL = "full"
"""The variant that all others are compared with."""
Stage = Literal["stage1", "stage2"]
STAGES: tuple[Stage, ...] = ("stage1", "stage2")
_STAGE_TITLES = {"stage1": "stage 1", "stage2": "stage 2"}


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
    """Whether the language model is ``smaller_language_model``."""
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
    read."""
    smaller_width: int = 96
    """Of the smaller language model, which the study pre-trains; the shipped one has 192."""
    smaller_layers: int = 2
    """The shipped one has 4."""
    smaller_steps: int = STEPS["language_model"]


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
    """Of each program. On 2 cores, two programs of one thread do more than one of two."""
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
        for name in ("max_parallel", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.microworld is None and not (self.stage1 and self.stage2):
            raise ValueError(
                "stage1 and stage2 are empty: name the YAML files of the two stages, or start from "
                "--config experiments/configs/ablations/microworld.yaml"
            )
        if self.microworld is not None and (self.stage1 or self.stage2):
            raise ValueError(
                "stage1 and stage2 name YAML files, but a microworld study has its own"
            )


@dataclass(frozen=True, kw_only=True)
class Run:
    """One variant under one seed."""

    variant: str
    seed: int
    training: tuple[Job, ...]
    """Its one or two training jobs."""
    evaluation: Job
    controls: tuple[Control, ...]


def study_variants(config: StudyConfig) -> dict[str, Variant]:
    """The variants to run, ``full`` first.

    Raises:
        ValueError: The smaller LLM is wanted, and nobody has said which.
    """
    names = [FULL, *(name for name in config.only or config.variants if name != FULL)]
    for name in names:
        wants = config.variants[name].smaller_language_model
        if wants and not config.smaller_language_model and config.microworld is None:
            raise ValueError(
                f"variant {name!r} wants a smaller LLM: set smaller_language_model to its folder "
                "or repository, or leave the variant out with only=[...]"
            )
    return {name: config.variants[name] for name in names}


def expand(config: StudyConfig) -> list[Run]:
    """All runs of a study, seed by seed, with their jobs; nothing is written.

    Raises:
        ValueError: A variant's overrides do not fit the configuration.
    """
    benchmark = _benchmark(config)
    variants = study_variants(config)
    # Read once each: with ten variants and three seeds, it would be most of the time.
    read = {
        name: {stage: _stage_experiment(config, variant, stage) for stage in STAGES}
        for name, variant in variants.items()
    }
    return [
        _expand_run(config, name, copy.deepcopy(read[name]), benchmark, seed)
        for seed in config.seeds
        for name in variants
    ]


def _expand_run(
    config: StudyConfig,
    name: str,
    experiments: dict[Stage, ExperimentConfig],
    benchmark: list[CorpusConfig],
    seed: int,
) -> Run:
    variant, label = config.variants[name], f"{name}, seed {seed}"
    before: tuple[Job, ...] = ()
    language_model = ""
    if variant.smaller_language_model:
        language_model = config.smaller_language_model
        if not language_model:
            before = (_pretraining_job(config),)
            language_model = str(before[0].outputs[0])
    perceiving: tuple[Job, ...] = ()
    for stage, experiment in experiments.items():
        perceiving = (_perceive_job(config, stage, experiment, perceiving),)
        experiment.seed = experiment.data.seed = seed
        if variant.without_corpora:
            _leave_out(experiment, variant.without_corpora, name)
        if language_model:
            experiment.reasoner.language_model.name_or_path = language_model
    training: list[Job] = []
    for stage in STAGES if variant.stages == "both" else (variant.stages,):
        experiment = experiments[stage]
        if stage == "stage2":
            experiment.initial_checkpoint = (
                str(checkpoint_folder(training[0].config.run_dir) / LAST_CHECKPOINT)
                if training
                else ""
            )
        needs = (*training, *perceiving, *before)
        training.append(_training_job(config, stage, experiment, needs, label))
    controls: tuple[Control, ...] = ("none",)
    if name == FULL:
        controls += tuple(config.full_controls)
    answering = copy.deepcopy(experiments["stage2"])
    answering.data.benchmark = benchmark
    return Run(
        variant=name,
        seed=seed,
        training=tuple(training),
        evaluation=_evaluation_job(config, answering, training[-1], controls, label),
        controls=controls,
    )


def _stage_experiment(config: StudyConfig, variant: Variant, stage: Stage) -> ExperimentConfig:
    """The configuration of a stage under a variant, without seed and paths to other jobs."""
    both, own = [*config.both_stages, *variant.both_stages], getattr(variant, stage)
    if config.microworld is None:
        return merge_config(ExperimentConfig, getattr(config, stage), [*both, *own])
    demo = config.microworld.demo
    demo = dataclasses.replace(
        demo,
        run_dir=config.run_dir,
        both_stages=[*demo.both_stages, *both],
        stage1=[*demo.stage1, *own],
        stage2=[*demo.stage2, *own],
    )
    return stage_experiment(demo, stage)  # reads the overrides of this stage alone


def _benchmark(config: StudyConfig) -> list[CorpusConfig]:
    """What all variants answer."""
    data = _stage_experiment(config, config.variants[FULL], "stage2").data
    return [
        *data.benchmark,
        *(
            dataclasses.replace(corpus, split="test", weight=1.0)
            for corpus in data.train
            if corpus.reader in config.benchmark
        ),
    ]


def _leave_out(experiment: ExperimentConfig, readers: Sequence[str], variant: str) -> None:
    experiment.data.train = [c for c in experiment.data.train if c.reader not in readers]
    if not experiment.data.train:
        raise ValueError(
            f"variant {variant!r}: without_corpora {list(readers)} leaves nothing to train on in "
            f"the stage {experiment.stage!r}"
        )


def _pretraining_job(config: StudyConfig) -> Job:
    assert config.microworld is not None
    study = config.microworld
    sizes = {
        "width": study.smaller_width,
        "layers": study.smaller_layers,
        "steps": study.smaller_steps,
    }
    program = "experiments.pretrain_microworld"
    key = job_key(program, sizes)
    folder = job_folder(config.run_dir, "language_model", key)
    options = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    return Job(
        title="pre-train the smaller language model",
        key=key,
        folder=folder,
        program=program,
        arguments=("language_model", *options, "--out", str(folder)),
        outputs=(folder / parts.LANGUAGE_MODEL_FOLDER.name,),
    )


def _perceive_job(
    config: StudyConfig, stage: Stage, experiment: ExperimentConfig, needs: tuple[Job, ...]
) -> Job:
    """Fills the store with a stage's videos. Stages wait for each other: they may share some."""
    experiment = copy.deepcopy(experiment)
    experiment.perceiver.kept_objects = None
    data = experiment.data
    corpora = [data.train, data.validation, data.benchmark]
    settings = [
        dataclasses.asdict(experiment.perceiver),
        dataclasses.asdict(experiment.store),
        [[dataclasses.asdict(corpus) for corpus in section] for section in corpora],
    ]
    return experiment_job(
        config.run_dir,
        "perceive",
        "experiments.perceive",
        experiment,
        settings,
        title=f"perceive the videos of {_STAGE_TITLES[stage]}",
        needs=needs,
    )


def _training_job(
    config: StudyConfig,
    stage: Stage,
    experiment: ExperimentConfig,
    needs: tuple[Job, ...],
    label: str,
) -> Job:
    job = experiment_job(
        config.run_dir,
        stage,
        "experiments.fit",
        experiment,
        [stage, learnt_settings(experiment)],
        title=f"{_STAGE_TITLES[stage]}: {label}",
        needs=needs,
    )
    return dataclasses.replace(job, outputs=(job.folder / REASONER_FOLDER,))


def _evaluation_job(
    config: StudyConfig,
    experiment: ExperimentConfig,
    trained: Job,
    controls: tuple[Control, ...],
    label: str,
) -> Job:
    """All variants answer by stage 2's configuration, also those that have no stage 2."""
    experiment.initial_checkpoint = ""
    experiment.model = str(Path(trained.config.run_dir) / REASONER_FOLDER)
    experiment.controls = list(controls)
    settings = [
        [dataclasses.asdict(corpus) for corpus in experiment.data.benchmark],
        dataclasses.asdict(experiment.evaluation),
        dataclasses.asdict(experiment.decoding),
        controls,
    ]
    job = experiment_job(
        config.run_dir,
        "evaluate",
        "experiments.evaluate",
        experiment,
        settings,
        title=f"evaluate: {label}",
        needs=(trained,),
    )
    outputs = tuple(predictions_file(experiment, control) for control in controls)
    return dataclasses.replace(job, outputs=outputs)
