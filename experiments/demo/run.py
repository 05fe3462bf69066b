"""The parts of the demo, in order."""

import dataclasses
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

import transformers

from experiments.demo.answers import (
    ANSWERS_FILE,
    answer_questions,
    answers_text,
    read_answers,
    write_answers,
)
from experiments.demo.config import DemoConfig
from experiments.demo.imagine import Imagining, write_fusion_core, write_tuned_reasoner
from experiments.demo.parts import Part, run_parts
from experiments.demo.references import write_references
from experiments.demo.report import QUESTIONS_FILE, REPORT_FILE, write_demo_report
from experiments.demo.results import CONTROLS, DemoResults, read_results, summary
from experiments.evaluate.run import answer_benchmark
from experiments.experiment_config import ExperimentConfig
from experiments.fit.resume import checkpoint_folder
from experiments.fit.resume_rules import learnt_settings
from experiments.fit.run import fit
from experiments.kept_runs import evaluation_folder
from experiments.perceive.run import perceive
from experiments.trained_model import REASONER_FOLDER, reasoner_folder
from vidreason.atomic_file import write_atomically
from vidreason.config import merge_config
from vidreason.microworld import parts
from vidreason.microworld.corpora import WorldConfig, write_world
from vidreason.perception.perceiver import perceiver_fingerprint
from vidreason.perception.weights import hash_file
from vidreason.training.checkpoint import LAST_CHECKPOINT

CONFIGS = Path(__file__).parents[1] / "configs"
TABLE_FILE = "table.md"
FUSION_CORE_FILE = "fusion_core.safetensors"
_CAPTIONS = "webvid"
"""Reader of what stage 1 learns."""


def demo(config: DemoConfig) -> None:
    """Do what is not done yet; print the table and the answers."""
    _quieten_libraries()
    run_dir = Path(config.run_dir)
    stage1, stage2 = stage_experiment(config, "stage1"), stage_experiment(config, "stage2")
    results = cache(lambda: read_results(stage1, stage2))  # takes seconds
    run_parts(demo_parts(config, results), run_dir)
    tables = [table.to_text() for table in results().tables]
    videos = read_answers(run_dir)
    answers = [answers_text(video) for video in videos]
    print("\n\n".join(["", *tables, *answers, "\n".join(summary(results()))]))
    files = [f"table:  {run_dir / TABLE_FILE}", f"report: {run_dir / REPORT_FILE}"]
    if videos:  # none is shown where no form has questions that are
        files.append(
            f"ask:    vidreason ask {videos[0].media} 'what entered first' "
            f"--model {reasoner_folder(stage2)}"
        )
    print("\n" + "\n".join(files))


def demo_parts(config: DemoConfig, results: Callable[[], DemoResults]) -> list[Part]:
    """The demo's parts, in their order.

    Args:
        config: Of the demo.
        results: Gives the scores once all is answered.
    """
    run_dir = Path(config.run_dir)
    shared = stage_experiment(config, None)
    stage1, stage2 = stage_experiment(config, "stage1"), stage_experiment(config, "stage2")
    answering = [stage2.decoding, stage2.evaluation]
    imagining = cache(lambda: Imagining(shared, config.world_seed))  # drawn once for all parts
    return [
        world_part(config),
        Part(
            title="perceive: visual tokens",
            settings=[perceiver_fingerprint(shared.perceiver), shared.store],
            outputs=(Path(shared.store.path),),
            work=lambda: perceive(shared),
        ),
        *_before_the_stages(config, shared, imagining, Path(stage1.reasoner.fusion.warm_start)),
        Part(
            title="stage 1: alignment",
            settings=[learnt_settings(stage1), _language_model_hashes(config)],
            outputs=(Path(stage1.run_dir),),
            work=lambda: fit(stage1),
        ),
        Part(
            title="stage 2: instruction, LoRA merged",
            settings=learnt_settings(stage2),
            outputs=(Path(stage2.run_dir),),
            work=lambda: fit(stage2),
        ),
        *_after_the_stages(config, stage2, imagining),
        Part(
            title="evaluate",
            settings=answering,
            outputs=(evaluation_folder(stage1), evaluation_folder(stage2), run_dir / TABLE_FILE),
            work=lambda: _evaluate(config, stage1, stage2, results),
        ),
        Part(
            title="answer",
            settings=[config.num_shown_videos],
            outputs=(run_dir / ANSWERS_FILE,),
            work=lambda: _answer_shown_videos(config, stage2),
        ),
        Part(
            title="report",
            settings=None,
            outputs=(run_dir / REPORT_FILE, run_dir / QUESTIONS_FILE),
            work=lambda: write_demo_report(run_dir, stage1, stage2, results()),
            repeat=True,
        ),
    ]


def world_part(config: DemoConfig) -> Part:
    """The part that writes the world."""
    folder, world = Path(config.run_dir) / "world", world_config(config)
    return Part(
        title="world: videos and annotations",
        settings=world,
        outputs=(folder,),
        work=lambda: write_world(folder, world),
    )


def _before_the_stages(
    config: DemoConfig,
    shared: ExperimentConfig,
    imagining: Callable[[], Imagining],
    fusion_core: Path,
) -> list[Part]:
    """The part in which the fusion core learns from imagined videos, if it is wanted."""
    steps = {name: getattr(config, name) for name in ("imagined_steps", "tuning_steps")}
    steps = {name: number for name, number in steps.items() if number}
    if steps and shared.reasoner.fusion.kind != "qformer":
        settings = " and ".join(f"{name} is {number}" for name, number in steps.items())
        raise ValueError(
            f"{settings}, but reasoner.fusion.kind is {shared.reasoner.fusion.kind!r}, which "
            "learns nothing from imagined videos; set "
            f"{' '.join(f'{name}=0' for name in steps)}"
        )
    if not config.imagined_steps:
        return []
    return [
        Part(
            title="imagine: the fusion core's start",
            settings=[config.imagined_steps, shared.seed, _language_model_hashes(config)],
            outputs=(fusion_core.parent,),
            work=lambda: write_fusion_core(imagining(), config.imagined_steps, fusion_core),
        )
    ]


def _after_the_stages(
    config: DemoConfig, stage2: ExperimentConfig, imagining: Callable[[], Imagining]
) -> list[Part]:
    """The part in which the reasoner goes on learning from imagined videos, if it is wanted."""
    if not config.tuning_steps:
        return []
    run, folder = Path(stage2.run_dir), Path(stage2.model)
    steps, seed = config.tuning_steps, stage2.seed
    return [
        Part(
            title="tune: the reasoner on imagined videos",
            settings=[steps, seed],
            outputs=(folder.parent,),
            work=lambda: write_tuned_reasoner(run, imagining(), steps, seed, folder),
        )
    ]


def world_config(config: DemoConfig) -> WorldConfig:
    """The world of a demo."""
    return WorldConfig(
        num_videos={
            "train": config.num_train_videos,
            "val": config.num_validation_videos,
            "test": config.num_test_videos,
        },
        questions_per_video=config.questions_per_video,
        seed=config.world_seed,
    )


def stage_experiment(
    config: DemoConfig, stage: Literal["stage1", "stage2"] | None
) -> ExperimentConfig:
    """The shipped configuration of a stage, or what both share, with everything in ``run_dir``."""
    # Shared settings first; a stage's file and overrides win over them.
    files = [CONFIGS / "microworld.yaml"]
    overrides = [*config.both_stages]
    if stage is not None:
        files.append(CONFIGS / f"microworld_{stage}.yaml")
        overrides += getattr(config, stage)
    experiment = merge_config(ExperimentConfig, [str(file) for file in files], overrides)
    # Paths are set here and not by overrides, which would read them as YAML.
    run_dir, models = Path(config.run_dir), Path(config.parts)
    experiment.perceiver.video_encoder.weights = str(models / parts.ENCODER_WEIGHTS.name)
    if experiment.perceiver.segmenter.name != "patches":
        experiment.perceiver.segmenter.weights = str(models / parts.SEGMENTER_WEIGHTS.name)
    language_model = str(models / parts.LANGUAGE_MODEL_FOLDER.name)
    experiment.reasoner.language_model.name_or_path = language_model
    experiment.store.path = str(run_dir / "store")
    for corpora in (experiment.data.train, experiment.data.validation, experiment.data.benchmark):
        corpora[:] = [c for c in corpora if c.reader in (_CAPTIONS, *config.forms)]
        for corpus in corpora:
            corpus.root = str(run_dir / "world" / corpus.reader)
    experiment.perceive.num_workers = config.num_workers
    experiment.run_dir = str(run_dir / (stage or "perceive"))
    if stage == "stage1" and config.imagined_steps:
        experiment.reasoner.fusion.warm_start = str(run_dir / "fusion_core" / FUSION_CORE_FILE)
    if stage == "stage2":
        newest = checkpoint_folder(str(run_dir / "stage1")) / LAST_CHECKPOINT
        experiment.initial_checkpoint = str(newest)
        if config.tuning_steps:
            experiment.model = str(run_dir / "tuned" / REASONER_FOLDER)
    return experiment


def _evaluate(
    config: DemoConfig,
    stage1: ExperimentConfig,
    stage2: ExperimentConfig,
    results: Callable[[], DemoResults],
) -> None:
    answer_benchmark(dataclasses.replace(stage2, controls=list(CONTROLS)))
    write_references(stage2, config.world_seed)
    answer_benchmark(dataclasses.replace(stage1, controls=["none"]))
    tables = [table.to_markdown() for table in (*results().tables, *results().forecasts)]
    write_atomically(Path(config.run_dir) / TABLE_FILE, "\n\n".join(tables) + "\n")


def _answer_shown_videos(config: DemoConfig, stage2: ExperimentConfig) -> None:
    videos = answer_questions(
        stage2, num_videos=config.num_shown_videos, world_seed=config.world_seed
    )
    write_answers(Path(config.run_dir), videos)


def _language_model_hashes(config: DemoConfig) -> dict[str, str]:
    folder = Path(config.parts) / parts.LANGUAGE_MODEL_FOLDER.name
    return {path.name: hash_file(str(path)) for path in sorted(folder.glob("*")) if path.is_file()}


def _quieten_libraries() -> None:
    """No advice of Lightning on how to train, no bars for loading a file."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
