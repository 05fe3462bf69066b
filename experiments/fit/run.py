"""Training of one stage: its reasoner, data, callbacks and Trainer."""

import dataclasses
import logging
import shlex
import warnings
from functools import partial
from pathlib import Path

import lightning
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from callbacks.early_stop import EarlyStop
from callbacks.freeze_schedule import FreezeSchedule
from callbacks.lora_merge import LoraMerge
from callbacks.preemption import Preemption
from callbacks.run_progress import RunProgress
from callbacks.run_record import CONFIG_FILE, RunRecord, recorded_threads
from callbacks.sample_generations import SampleGenerations
from callbacks.step_checkpoint import AtomicCheckpointIO, PendingValidation, StepCheckpoint
from callbacks.step_guard import StepGuard
from callbacks.step_profile import StepProfile
from callbacks.step_seed import StepSeed
from callbacks.throughput import DataWaitTimer, Throughput
from callbacks.weight_average import WeightAverage
from data_modules.corpus_index import open_corpora
from data_modules.global_order import accumulation
from data_modules.training_data import (
    AlignmentDataModule,
    InstructionDataModule,
    TrainingDataModule,
)
from experiments.experiment_config import ExperimentConfig
from experiments.fit.added_callbacks import added_callbacks
from experiments.fit.debug_run import clear_debug_run
from experiments.fit.largest_batch import largest_batch, rehearses
from experiments.fit.loggers import build_loggers, log_settings
from experiments.fit.monitored_metrics import check_monitored, tested_corpora
from experiments.fit.progress_bar import progress_bar
from experiments.fit.resume import (
    check_initial_checkpoint,
    checkpoint_folder,
    checkpoint_step,
    resume_checkpoint,
    say_changes,
)
from experiments.fit.resume_rules import learnt_settings
from experiments.fit.strategies import build_strategy
from experiments.program import FAILURES_FILE
from experiments.start_checks.checks import check_start
from experiments.trained_model import REASONER_FOLDER
from experiments.writer_lock import sole_writer
from vidreason.cores import use_threads
from vidreason.devices import torch_device
from vidreason.example import spread_examples
from vidreason.fusion.fusion_core import FusionCore
from vidreason.fusion.warm_start import warm_start
from vidreason.model import Provenance, VideoReasoner, build_reasoner
from vidreason.perception.models import video_encoder_sizes
from vidreason.pretrained.frozen_parts import frozen_hashes
from vidreason.reasoning.language_model import causal_lm
from vidreason.reasoning.packed_attention import packs_rows
from vidreason.store.visual_token_source import VisualTokenSource
from vidreason.training.checkpoint_format import RunIdentity
from vidreason.training.optimizer import num_warmup_steps
from vidreason.training.sharding import compile_blocks
from vidreason.training.stage import StageModule
from vidreason.video.reader import VideoReader

DATA_MODULES = {"alignment": AlignmentDataModule, "instruction": InstructionDataModule}

WARM_START_FILE = "warm_start.json"
"""In the run folder: which tensors of a Q-Former the fusion core started from."""

EXPECTED_WARNINGS = (
    "Found .* module.s. in eval mode at the start of training",  # what is frozen: on purpose
    ".*does not have many workers",  # data.num_workers says how many are wanted
    "It is recommended to use .self.log.'val/",  # the stages reduce over ranks before they log
    ".isinstance.treespec, LeafSpec.. is deprecated",  # Lightning 2.6.6 under torch 2.14
)
"""Patterns of library warnings that say nothing to the user of this program."""


def fit(config: ExperimentConfig) -> None:
    """Train the stage of ``config`` to its end, from the newest checkpoint if there is one.

    Raises:
        ValueError: Another process trains in ``run_dir``; or what the parts raise.
    """
    check_start(config, "fit")
    with sole_writer(config.run_dir, "fit"):
        lightning.seed_everything(config.seed)
        checkpoint = start_point(config)
        source = token_source(config)
        reasoner = new_reasoner(config, resumed=checkpoint is not None)
        data = build_data(config, source, reasoner)
        module = build_module(config, data, source, reasoner, resumed=checkpoint is not None)
        progress = RunProgress(
            header(config, data, checkpoint), next_commands(config), data.total_steps
        )
        trainer = build_trainer(config, data, source, checkpoint, progress)
        log_settings(trainer.loggers, learnt_settings(config))
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)


def start_point(config: ExperimentConfig) -> str | None:
    """Return the checkpoint to resume from, None for a new run, and prepare the process for it."""
    clear_debug_run(config)
    checkpoint = resume_checkpoint(config)
    if checkpoint is None:
        check_initial_checkpoint(config)
    else:
        say_changes(config, checkpoint)
        # Another number of threads rounds otherwise: a resumed run keeps the one it began with.
        use_threads(recorded_threads(Path(config.run_dir)))
    return checkpoint


def new_reasoner(config: ExperimentConfig, *, resumed: bool) -> VideoReasoner:
    """Build the reasoner that is trained; a checkpoint fills that of a resumed run."""
    visual_dim = video_encoder_sizes(config.perceiver.video_encoder).width
    reasoner = build_reasoner(config.reasoner, visual_dim, perceiver=config.perceiver)
    if not resumed:
        start_warm(config, reasoner)
    if config.trainer.compile:
        compile_blocks(reasoner)
    return reasoner


def build_data(
    config: ExperimentConfig, source: VisualTokenSource, reasoner: VideoReasoner
) -> TrainingDataModule:
    """Build the data of the stage, as the language model takes its rows: packed or padded."""
    data: TrainingDataModule = DATA_MODULES[config.stage](
        config.data,
        source,
        reasoner.tokenizer,
        visual_dim=reasoner.visual_dim,
        failures_path=Path(config.run_dir) / FAILURES_FILE,
        system_prompt=config.reasoner.system_prompt,
        padded=not packs_rows(causal_lm(reasoner.language_model)),
        seed=config.seed,
    )
    # A metric that never comes would be waited for in vain.
    check_monitored(config, data.total_steps)
    return data


def build_module(
    config: ExperimentConfig,
    data: TrainingDataModule,
    source: VisualTokenSource,
    reasoner: VideoReasoner,
    *,
    resumed: bool,
) -> StageModule:
    """Build the LightningModule of the stage, with the identity that its checkpoints record."""
    initial = "" if resumed else initial_checkpoint(config)
    thawed = [thaw.part for thaw in config.freeze_schedule]
    module = StageModule(
        reasoner, config.optimizer, data.total_steps, config.stage, initial, thawed
    )
    module.identity = run_identity(config, source)
    return module


def initial_checkpoint(config: ExperimentConfig) -> str:
    """Return the checkpoint of stage 1 that stage 2 starts from; empty for none."""
    if config.stage == "alignment":
        return ""
    if not config.initial_checkpoint:
        rank_zero_info("no initial_checkpoint: the fusion core starts without stage 1")
    return config.initial_checkpoint


def start_warm(config: ExperimentConfig, reasoner: VideoReasoner) -> None:
    """Give a new fusion core the Q-Former of ``fusion.warm_start``; say and record what fitted.

    Stage 2 takes stage 1's fusion core over, which has had such a start or none.
    """
    path = config.reasoner.fusion.warm_start
    if not path or config.initial_checkpoint:
        return
    assert isinstance(reasoner.fusion, FusionCore)  # FusionConfig refuses it for any other
    report = warm_start(reasoner.fusion, path)
    rank_zero_info(report.summary())
    rank_zero_only(report.write)(Path(config.run_dir) / WARM_START_FILE)


def token_source(config: ExperimentConfig) -> VisualTokenSource:
    """Return the source of visual tokens; missing ones are perceived, in workers on the CPU."""
    device = "cpu" if config.data.num_workers else torch_device(config.device)
    reader = VideoReader(config.data.decode_timeout_seconds)
    return VisualTokenSource(config.perceiver, config.store, device, reader)


def build_trainer(
    config: ExperimentConfig,
    data: TrainingDataModule,
    source: VisualTokenSource,
    checkpoint: str | None,
    progress: RunProgress | None = None,
) -> Trainer:
    """The Trainer with its loggers and callbacks; ``progress`` tells the user of it."""
    silence_libraries()
    settings = config.trainer
    timer = DataWaitTimer()
    callbacks = build_callbacks(config, data, source)
    trainer = Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=build_strategy(config),
        precision=settings.precision,
        max_epochs=config.data.num_epochs,
        max_steps=min(settings.stop_after_steps or data.total_steps, data.total_steps),
        log_every_n_steps=settings.log_every_n_steps,
        logger=build_loggers(config, None if checkpoint is None else checkpoint_step(checkpoint)),
        deterministic=settings.deterministic or None,
        callbacks=[
            *weight_average(config),
            RunRecord(
                config,
                Path(config.run_dir),
                resumed_from=checkpoint,
                total_steps=data.total_steps,
                record_samples=settings.record_samples,
            ),
            Throughput(timer, settings.log_every_n_steps, Path(config.run_dir)),
            *([] if progress is None else [progress]),
            *callbacks,
            # Lightning takes one bar only; somebody may have added theirs.
            *([] if any(isinstance(one, ProgressBar) for one in callbacks) else [progress_bar()]),
        ],
        plugins=[AtomicCheckpointIO()],
        profiler=timer,
        use_distributed_sampler=False,  # the data modules cut the global order themselves
        default_root_dir=config.run_dir,
    )
    # Only the Trainer knows how many processes there are, and what follows depends on it.
    micro_batches = accumulation(
        config.data.global_batch_size, config.data.batch_size, trainer.world_size
    )
    trainer.accumulate_grad_batches = micro_batches
    if settings.validate_every_n_steps is not None:
        trainer.val_check_interval = settings.validate_every_n_steps * micro_batches
        trainer.check_val_every_n_epoch = None
    return trainer


def header(config: ExperimentConfig, data: TrainingDataModule, checkpoint: str | None) -> list[str]:
    """Return what is said of a run before its first step."""
    number = 1 if config.stage == "alignment" else 2
    begins = "a new run" if checkpoint is None else f"continued from {checkpoint}"
    samples, epochs = data.order.samples_per_epoch, config.data.num_epochs
    times = "one epoch" if epochs == 1 else f"{epochs} epochs"
    optimizer, steps = config.optimizer, data.total_steps
    warmup = num_warmup_steps(steps, optimizer)
    return [
        f"stage {number} ({config.stage}) in {config.run_dir}: {begins}",
        f"  samples: {samples:,} an epoch of {len(config.data.train)} corpora, {times}",
        f"  steps: {steps:,} of {config.data.global_batch_size} samples, in micro-batches of "
        f"{config.data.batch_size}",
        f"  learning rate: {optimizer.learning_rate:g} after {warmup} steps of warm-up",
    ]


def next_commands(config: ExperimentConfig) -> list[str]:
    """Return what one does with a trained reasoner."""
    if not config.trainer.save_reasoner:
        return []
    folder = Path(config.run_dir, REASONER_FOLDER)
    return [
        f"vidreason ask VIDEO QUESTION --model {shlex.quote(str(folder))}",
        "python -m experiments.evaluate --config "
        f"{shlex.quote(str(Path(config.run_dir, CONFIG_FILE)))}",
    ]


def weight_average(config: ExperimentConfig) -> list[Callback]:
    """Callbacks that have to come first, since the others look at the weights it sets."""
    average = config.weight_average
    return [] if average.kind == "none" else [WeightAverage(average)]


def silence_libraries() -> None:
    """Keep away from the user what libraries say about choices that are not the user's."""
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "litlogger" not in record.getMessage()  # an advertisement at each start
    )


def build_callbacks(
    config: ExperimentConfig, data: TrainingDataModule, source: VisualTokenSource
) -> list[Callback]:
    """Callbacks during and after training: seeds, checkpoints, the result; more if asked for."""
    settings = config.trainer
    checkpoint = StepCheckpoint(
        checkpoint_folder(config.run_dir),
        settings.checkpoint_every_n_steps,
        settings.keep_checkpoints,
        keep_best=settings.keep_best,
        monitor=settings.monitor,
        mode=settings.monitor_mode,
    )
    # Always: the same seeds at the same step, checkpoints, and an orderly end when told to stop.
    callbacks: list[Callback] = [
        StepSeed(config.seed),
        checkpoint,
        PendingValidation(),
        Preemption(checkpoint),
    ]
    # Watching the steps: harmful ones, early stopping, memory, time.
    if config.guard.skip_nonfinite is not False or config.guard.spike_deviations is not None:
        callbacks.append(StepGuard(config.guard, config.run_dir))
    if settings.early_stopping_patience is not None:
        patience, min_delta = settings.early_stopping_patience, settings.early_stopping_min_delta
        callbacks.append(EarlyStop(settings.monitor, settings.monitor_mode, patience, min_delta))
    if rehearses(config):
        callbacks.append(largest_batch(config))
    if settings.profile_steps:
        callbacks.append(StepProfile(Path(config.run_dir) / "profile", settings.profile_steps))
    # The result at the end, and what begins to train later.
    if settings.save_reasoner:
        folder = Path(config.run_dir) / REASONER_FOLDER
        callbacks.append(LoraMerge(folder, provenance(config), source.weights_hashes))
    if config.freeze_schedule:
        callbacks.append(FreezeSchedule(config.freeze_schedule))
    # Answers during training: a few to look at, and the benchmarks.
    if config.sample_generations.every_n_steps:
        callbacks.append(
            SampleGenerations(
                spread_examples(data.validation_examples, config.sample_generations.num_examples),
                source,
                config.decoding,
                config.sample_generations.every_n_steps,
            )
        )
    if config.data.benchmark and config.evaluation.every_n_steps is not None:
        from callbacks.benchmark_evaluation import BenchmarkEvaluation  # brings all of evaluation

        callbacks.append(
            BenchmarkEvaluation(
                list(open_corpora(config.data.benchmark, config.data.max_malformed_fraction)),
                source,
                config.evaluation,
                config.decoding,
                Path(config.run_dir) / "benchmark",
                config.controls[0] if config.controls else "none",
                tested_corpora(config.data),
            )
        )
    # Those from outside of this project come last: they see what all others have done.
    return callbacks + added_callbacks(settings.callbacks)


def run_identity(config: ExperimentConfig, source: VisualTokenSource) -> RunIdentity:
    """Identity of the run for its checkpoints; frozen parts are hashed when one is made or read."""
    frozen = partial(
        frozen_hashes, config.reasoner.language_model, config.perceiver, source.weights_hashes
    )
    return RunIdentity(dataclasses.asdict(config), frozen)


def provenance(config: ExperimentConfig) -> Provenance:
    """Provenance of the run for the model card."""
    corpora = [f"{corpus.reader} ({corpus.split})" for corpus in config.data.train]
    return Provenance(stage=config.stage, training_data=corpora)
