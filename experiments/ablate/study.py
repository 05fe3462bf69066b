"""Jobs of an ablation study: variants times seeds, which share what is equal in them."""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_modules.corpora import CorpusConfig
from experiments.ablate.config import FULL, STAGES, Stage, StudyConfig, Variant
from experiments.demo.config import DemoConfig
from experiments.demo.run import stage_experiment
from experiments.experiment_config import ExperimentConfig
from experiments.fit.resume import checkpoint_folder
from experiments.fit.resume_rules import learnt_settings
from experiments.jobs import Job, experiment_job, job_folder, job_key
from experiments.kept_runs import predictions_file
from experiments.trained_model import REASONER_FOLDER
from vidreason.config import merge_config
from vidreason.evaluation.config import Control
from vidreason.microworld import parts
from vidreason.training.checkpoint import LAST_CHECKPOINT

_STAGE_TITLES = {"stage1": "stage 1", "stage2": "stage 2"}


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
        # A copy, because seeds and paths are written into it.
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
    # Jobs that the training needs: the smaller language model, then the videos of both stages.
    variant, label = config.variants[name], f"{name}, seed {seed}"
    before: tuple[Job, ...] = ()
    language_model = ""
    if variant.smaller_language_model:
        language_model = config.smaller_language_model
        if not language_model:
            before = (_pretraining_job(config),)
            language_model = str(before[0].outputs[0])
    # Features of both stages, one job after the other.
    perceiving: tuple[Job, ...] = ()
    for stage, experiment in experiments.items():
        perceiving = (_perceive_job(config, stage, experiment, perceiving),)
        experiment.seed = seed
        if variant.without_corpora:
            _leave_out(experiment, variant.without_corpora, name)
        if language_model:
            experiment.reasoner.language_model.name_or_path = language_model
    # One or two training jobs; stage 2 starts from the checkpoint of stage 1.
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
    # All variants answer the same benchmark, whichever stages they trained.
    answering = copy.deepcopy(experiments["stage2"])
    answering.data.benchmark = benchmark
    return Run(
        variant=name,
        seed=seed,
        training=tuple(training),
        evaluation=_evaluation_job(config, answering, training[-1], controls, label),
        controls=controls,
    )


def study_demo(config: StudyConfig) -> DemoConfig:
    """The demo whose world and stages a study on the microworld has; it imagines no videos."""
    assert config.microworld is not None
    return dataclasses.replace(
        config.microworld.demo,
        run_dir=config.run_dir,
        imagined_steps=0,
        tuning_steps=0,
    )


def _stage_experiment(config: StudyConfig, variant: Variant, stage: Stage) -> ExperimentConfig:
    """The configuration of a stage under a variant, without seed and paths to other jobs."""
    both, of_stage = [*config.both_stages, *variant.both_stages], getattr(variant, stage)
    if config.microworld is None:
        return merge_config(ExperimentConfig, getattr(config, stage), [*both, *of_stage])
    demo = study_demo(config)
    demo = dataclasses.replace(
        demo,
        both_stages=[*demo.both_stages, *both],
        stage1=[*demo.stage1, *of_stage],
        stage2=[*demo.stage2, *of_stage],
    )
    return stage_experiment(demo, stage)  # reads the overrides of this stage alone


def _benchmark(config: StudyConfig) -> list[CorpusConfig]:
    """Corpora that all variants answer."""
    data = _stage_experiment(config, config.variants[FULL], "stage2").data
    readers = {corpus.reader for corpus in data.benchmark}
    return [
        *data.benchmark,
        *(
            dataclasses.replace(corpus, split="test", weight=1.0)
            for corpus in data.train
            if corpus.reader in config.benchmark and corpus.reader not in readers
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
    # The store has all objects: which are kept is decided when tokens are read from it.
    experiment.perceiver.kept_objects = None
    data = experiment.data
    corpora = [data.train, data.validation, data.benchmark]
    return experiment_job(
        config.run_dir,
        "perceive",
        "experiments.perceive",
        experiment,
        [experiment.perceiver, experiment.store, corpora],
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
        # Variants whose stage learns the same, as full's and no_stage2's stage 1, share its job.
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
    settings = [experiment.data.benchmark, experiment.evaluation, experiment.decoding, controls]
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
