"""Pre-training of the microworld's fusion core on imagined videos, before any language model.

Released Q-Formers, from which a fusion core may start (``fusion/warm_start.py``), have seen 129
million pictures. Here the simulator knows the truth, so the fusion core is taught it directly, as
the encoder is: linear heads (``facts.py``) read it from the embeddings, in videos that only the
simulator has seen (``imagination.py``): the stories of the training videos, mirrored, turned and
recoloured.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from vidreason.fusion.fusion_core import FusionCore
from vidreason.microworld.facts import FACT_WEIGHTS, FactHeads, Facts, facts_of
from vidreason.microworld.imagination import Imagination
from vidreason.microworld.pretraining import (
    BATCHES_PER_STEP,
    autocast,
    batch_numbers,
    minimise,
)
from vidreason.microworld.simulation import Rollout
from vidreason.microworld.symmetries import draw_view
from vidreason.microworld.training_processes import process_rank
from vidreason.perception.visual_tokens import VisualBatch, collate_visual_tokens


class _Batch(NamedTuple):
    visual: VisualBatch
    facts: Facts


class ImaginedBatches(IterableDataset[_Batch]):
    """An endless stream of batches, the same for any number of workers.

    Args:
        imagination: Gives the visual tokens.
        stories: What happens in the videos, up to symmetries.
        batch_size: Videos of a batch.
        seed: Of the choice of stories and symmetries.
        numbers: Arguments of :func:`batch_numbers`.
    """

    def __init__(
        self,
        imagination: Imagination,
        stories: Sequence[Rollout],
        batch_size: int,
        seed: int,
        numbers: tuple[int, ...] = (0,),
    ) -> None:
        self.imagination = imagination
        self.stories = stories
        self.batch_size = batch_size
        self.seed = seed
        self.numbers = numbers

    def __iter__(self) -> Iterator[_Batch]:
        for number in batch_numbers(*self.numbers):
            yield self._batch(random.Random(f"imagined/{self.seed}/{number}"))

    def _batch(self, generator: random.Random) -> _Batch:
        stories = generator.choices(self.stories, k=self.batch_size)
        rollouts = [draw_view(story, generator) for story in stories]
        tokens = [self.imagination.tokens(rollout, generator) for rollout in rollouts]
        facts = zip(*map(facts_of, rollouts), strict=True)
        return _Batch(collate_visual_tokens(tokens), Facts(*map(torch.stack, facts)))


def pretrain_fusion_core(
    fusion: FusionCore,
    imagination: Imagination,
    stories: Sequence[Rollout],
    *,
    steps: int,
    batch_size: int = 32,
    batches_per_step: int = BATCHES_PER_STEP,
    learning_rate: float = 1.5e-3,
    num_workers: int = 1,
    seed: int = 0,
    report_every: int = 50,
    progress: Path | None = None,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train ``fusion`` in place; yields ``(step, losses)`` now and then.

    Args:
        fusion: A new fusion core.
        imagination: Gives the visual tokens.
        stories: What happens in training videos.
        steps: Optimizer steps.
        batch_size: Videos of a batch.
        batches_per_step: Batches whose gradients are averaged.
        learning_rate: The highest.
        num_workers: Processes that imagine; 0 for none beside the training one.
        seed: Of the batches and of the heads.
        report_every: Steps between two reports.
        progress: File that an interrupted call leaves and a later one goes on from.
    """
    torch.manual_seed(seed)
    heads = FactHeads(fusion)

    def losses_from(first: int) -> Iterator[dict[str, Tensor]]:
        numbers = (first, *process_rank())
        stream = ImaginedBatches(imagination, stories, batch_size, seed, numbers)
        for batch in DataLoader(stream, batch_size=None, num_workers=num_workers):
            with autocast():
                embeddings = fusion(batch.visual)
                losses = heads.losses(embeddings, batch.facts)
            yield losses

    yield from minimise(
        [*fusion.parameters(), *heads.parameters()],
        losses_from,
        FACT_WEIGHTS,
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=0.05,
        report_every=report_every,
        batches_per_step=batches_per_step,
        progress=progress,
    )
