"""A tiny training run for tests: a reasoner, batches with unequal numbers of targets, a trainer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from callbacks.step_checkpoint import AtomicCheckpointIO
from vidreason.fusion.fusion_core import FusionConfig
from vidreason.model import ReasonerConfig, VideoReasoner, build_reasoner
from vidreason.perception.visual_tokens import VisualTokens, collate_visual_tokens
from vidreason.reasoning.language_model import LanguageModelConfig, LoraSettings
from vidreason.reasoning.text_batch import collate_texts
from vidreason.reasoning.tokenization import encode_example
from vidreason.training.optimizer import OptimizerConfig
from vidreason.training.stage import StageModule
from vidreason.training.trainable import Stage

VISUAL_DIM = 24
TESTS = Path(__file__).parent
EXPECTED_WARNINGS = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:You defined a `validation_step` but have no `val_dataloader`",
    "ignore:Found .* in eval mode at the start of training",  # the frozen ones, on purpose
    "ignore:You're resuming from a checkpoint that ended before the epoch",  # a plain loader
)
"""Lightning's warnings about a tiny training run."""
BY_GRADIENT = {"learning_rate": 1.0, "epsilon": 1.0, "weight_decay": 0.0}
"""Settings of AdamW by which a step is in proportion to the gradient. With a usual epsilon it would
hide a gradient that is twice too large, and make whole steps of gradients that are only rounding.
"""


def tiny_samples(num_samples: int) -> list[tuple[VisualTokens, str, str]]:
    """Videos with 0 to 4 tokens, one prompt for all, and responses of 5 to 40 letters."""
    samples = []
    for index in range(num_samples):
        generator = torch.Generator().manual_seed(index)
        count = index % 5
        tokens = VisualTokens(
            features=torch.randn(count, VISUAL_DIM, generator=generator),
            kinds=torch.arange(count) % 2,  # clip, object, clip, ...
            spans=torch.arange(count)[:, None] + torch.tensor([[0.0, 1.0]]),
            boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(count, 4),
            areas=torch.ones(count),
            track_ids=torch.arange(count) % 2 - 1,
            masks=(None,) * count,
            duration_seconds=float(max(count, 1)),
        )
        samples.append((tokens, "What is in the video?", "abcdefgh"[: index % 8 + 1] * 5))
    return samples


def tiny_loader(
    reasoner: VideoReasoner,
    batch_size: int,
    num_samples: int = 16,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """Batches in a fixed order; several ranks' first batches together are one rank's first."""

    def collate(samples):
        texts = [
            encode_example(reasoner.tokenizer, prompt, response, max_tokens=200)
            for _, prompt, response in samples
        ]
        return {
            "visual": collate_visual_tokens([tokens for tokens, _, _ in samples]),
            "text": collate_texts(texts),
        }

    samples = tiny_samples(num_samples)[rank::world_size]
    return DataLoader(samples, batch_size=batch_size, collate_fn=collate)


def tiny_training_reasoner(folder: str, *, lora: bool = False, seed: int = 1) -> VideoReasoner:
    """A reasoner with few parameters; the same for the same arguments."""
    config = ReasonerConfig(
        fusion=FusionConfig(num_queries=4, width=32, num_layers=1, num_heads=4),
        language_model=LanguageModelConfig(name_or_path=folder, dtype="float32"),
        lora=LoraSettings(rank=4, alpha=8) if lora else None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_reasoner(config, visual_dim=VISUAL_DIM)


def tiny_optimizer(**fields: object) -> OptimizerConfig:
    """A learning rate that moves things within a few steps."""
    return OptimizerConfig(**{"learning_rate": 1e-3, "warmup_steps": 1, **fields})


def tiny_trainer(**options: object) -> Trainer:
    """A quiet trainer on the CPU."""
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "log_every_n_steps": 1,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "plugins": [AtomicCheckpointIO()],
    }
    return Trainer(**{**quiet, **options})


def tiny_module(
    folder: str,
    stage: Stage = "instruction",
    *,
    seed: int = 1,
    total_steps: int = 8,
    initial_checkpoint: str = "",
    **optimizer: object,
) -> StageModule:
    """A stage on a tiny reasoner; the same for the same arguments."""
    reasoner = tiny_training_reasoner(folder, lora=stage == "instruction", seed=seed)
    settings = tiny_optimizer(**optimizer)
    return StageModule(reasoner, settings, total_steps, stage, initial_checkpoint)


def tiny_fit(
    module: StageModule,
    *callbacks: Callback,
    batch_size: int = 4,
    validate: bool = False,
    resume: str | Path | None = None,
    **options: object,
) -> Trainer:
    """Train ``module`` on the tiny samples, which are those of validation, too."""
    trainer = tiny_trainer(callbacks=list(callbacks), **options)
    loader = tiny_loader(module.reasoner, batch_size)
    validation = loader if validate else None
    trainer.fit(module, loader, validation, ckpt_path=resume, weights_only=True)
    return trainer


class StepLosses(Callback):
    """Records the loss of each optimizer step."""

    def __init__(self) -> None:
        self.by_step: dict[int, float] = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if "train/loss" in trainer.callback_metrics:  # there is none before the first step's end
            self.by_step[trainer.global_step] = float(trainer.callback_metrics["train/loss"])


def run_as_program(file: str, *arguments: object, **environment: str) -> str:
    """Run a test's file as a program, which starts its own ranks; gives what it prints."""
    paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    variables = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, file, *map(str, arguments)],
        env={**os.environ, **variables},
        timeout=290,
        capture_output=True,  # apart: progress bars do not end their lines
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def this_rank() -> int:
    """The rank that Lightning has started this process as."""
    return int(os.environ.get("LOCAL_RANK", "0"))
