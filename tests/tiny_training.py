"""A tiny training run for tests: a reasoner, batches with unequal numbers of targets, a trainer."""

import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from callbacks.step_checkpoint import AtomicCheckpointIO
from vidreason.fusion.fusion_core import FusionConfig
from vidreason.model import ReasonerConfig, VideoReasoner, build_reasoner
from vidreason.perception.visual_tokens import VisualTokens, collate_visual_tokens
from vidreason.reasoning.language_model import LanguageModelConfig, LoraSettings
from vidreason.reasoning.text_batch import collate_texts
from vidreason.reasoning.tokenization import encode_example
from vidreason.training.optimizer import OptimizerConfig

VISUAL_DIM = 24


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
