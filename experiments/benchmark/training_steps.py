"""One optimizer step in plain PyTorch, on joined rows (ours) or on padded ones.

Both formulations train copies of one reasoner on the same batches. They share the frozen weights.
"""

import argparse
import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.utils import clip_grad_norm_

from data_modules.video_text import Batch, Collator
from experiments.benchmark.flops import Flops, step_flops
from experiments.benchmark.padded_rows import PaddedTexts, pad_texts, padded_loss
from experiments.benchmark.workloads import random_samples
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import move_visual_tokens
from vidreason.reasoning.language_model import causal_lm
from vidreason.reasoning.text_batch import move_texts
from vidreason.training.config import OptimizerConfig, Stage
from vidreason.training.loss import next_token_loss
from vidreason.training.optimizer import build_optimizer, build_schedule
from vidreason.training.trainable import set_trainable, trainable_names

OPTIMIZER = OptimizerConfig(warmup_steps=1)


class StepBatch(NamedTuple):
    """A batch in both forms, on the host."""

    joined: Batch
    padded: PaddedTexts
    row_lengths: list[int]
    """Positions of each row: video embeddings and text tokens."""


Loss = Callable[[VideoReasoner, StepBatch], Tensor]
"""Mean loss over the targets of a batch."""


def draw_batches(
    arguments: argparse.Namespace, reasoner: VideoReasoner, count: int
) -> list[StepBatch]:
    """Batches of random samples, as the options size them."""
    generator = Generator().manual_seed(arguments.seed)
    words: Any = causal_lm(reasoner.language_model).get_input_embeddings()
    collate = Collator(visual_dim=reasoner.visual_dim)
    batches = []
    for _ in range(count):
        samples = random_samples(
            arguments.batch_size,
            arguments,
            width=reasoner.visual_dim,
            vocabulary=words.num_embeddings,
            generator=generator,
        )
        texts = [sample.text for sample in samples]
        queries = reasoner.fusion.num_embeddings
        batches.append(
            StepBatch(
                joined=collate(samples),
                padded=pad_texts(texts),
                row_lengths=[queries + len(text.input_ids) for text in texts],
            )
        )
    return batches


def joined_mean_loss(reasoner: VideoReasoner, batch: StepBatch) -> Tensor:
    """The loss as the stages of ``fit`` compute it: rows joined, logits of targets only."""
    device = next(reasoner.parameters()).device
    visual = move_visual_tokens(batch.joined["visual"], device)
    loss_sum, count = next_token_loss(reasoner(visual, move_texts(batch.joined["text"], device)))
    return loss_sum / count


def padded_mean_loss(reasoner: VideoReasoner, batch: StepBatch) -> Tensor:
    """The loss as a model of transformers computes it from padded rows."""
    device = next(reasoner.parameters()).device
    texts = PaddedTexts(*(tensor.to(device) for tensor in batch.padded))
    return padded_loss(reasoner, move_visual_tokens(batch.joined["visual"], device), texts)


class BareLoop:
    """A training loop without a framework: forward, backward, clip, step.

    Args:
        reasoner: It is trained.
        stage: What trains.
        loss: The formulation.
        total_steps: Of the schedule.
        dtype: Of mixed precision, as ``fit`` uses it with frozen weights of this type.
    """

    def __init__(
        self,
        reasoner: VideoReasoner,
        stage: Stage,
        loss: Loss,
        total_steps: int,
        dtype: torch.dtype,
    ) -> None:
        self.reasoner = reasoner
        self.loss = loss
        names = trainable_names(reasoner, stage)
        set_trainable(reasoner, names)
        reasoner.train()
        self.trained = [p for p in reasoner.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(reasoner, names, OPTIMIZER)
        self.schedule = build_schedule(self.optimizer, total_steps, OPTIMIZER)
        # What trains stays in float32, as under fit's bf16-mixed.
        self.autocast = torch.autocast(
            self.trained[0].device.type, dtype, enabled=dtype != torch.float32
        )

    def gradient(self, batch: StepBatch) -> Tensor:
        """Compute the gradient of a batch; returns its loss."""
        with self.autocast:
            loss = self.loss(self.reasoner, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def step(self, batch: StepBatch) -> Tensor:
        """Make an optimizer step; returns the loss before it."""
        loss = self.gradient(batch)
        assert OPTIMIZER.gradient_clip_norm is not None
        clip_grad_norm_(self.trained, OPTIMIZER.gradient_clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return loss

    def steps(self, batches: Sequence[StepBatch]) -> list[Tensor]:
        """Make a step on each batch; returns the losses."""
        return [self.step(batch) for batch in batches]


def copy_trained(reasoner: VideoReasoner, stage: Stage) -> VideoReasoner:
    """A copy that trains by itself; it shares what the stage does not train."""
    names = trainable_names(reasoner, stage)
    # deepcopy takes what is in its memo as copied already: frozen weights, and the tokenizer.
    shared = {id(p): p for name, p in reasoner.named_parameters() if name not in names}
    return copy.deepcopy(reasoner, {**shared, id(reasoner.tokenizer): reasoner.tokenizer})


def gradient_difference(ours: BareLoop, other: BareLoop) -> float:
    """Length of the difference of two gradients, relative to the length of the other's."""
    difference = length = 0.0
    for one, two in zip(ours.trained, other.trained, strict=True):
        assert one.grad is not None
        assert two.grad is not None
        # Sums of millions of small squares, in double precision.
        difference += float((one.grad - two.grad).double().square().sum())
        length += float(two.grad.double().square().sum())
    return float((difference / length) ** 0.5)


def batch_flops(reasoner: VideoReasoner, batch: StepBatch) -> Flops:
    """Operations that a step on ``batch`` needs; padding is none of them."""
    return step_flops(
        reasoner,
        [length - 1 for length in batch.row_lengths],  # the last token predicts nothing
        len(batch.joined["text"]["target_ids"]),
        batch.joined["visual"]["mask"].shape[1],
    )
