"""Training and validation batches of both stages, in an order that a resume continues exactly.

The position is this data module's state: the epoch, and the samples consumed in it over all ranks.
It is counted when the training loop takes a batch, not when a worker process loads one, and it is
restored before the loaders are built. So is what of the budget for unreadable videos is spent.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from data_modules.corpora import CorpusConfig, DataConfig
from data_modules.corpus_index import Corpora, open_trainable
from data_modules.global_order import GlobalOrder, GlobalOrderBatchSampler, accumulation
from data_modules.prompt_lengths import PromptLimit
from data_modules.rank_loader import RankLoader, leave_signals_to_the_run
from data_modules.video_text import Batch, Collator, VideoTextDataset
from vidreason.perception.visual_tokens import TokenSource
from vidreason.training.dropped_tokens import drop_tokens
from vidreason.video.failures import FailureLog

logger = logging.getLogger(__name__)


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """Move the tensors of ``batch``, which are on the host, without waiting for the device."""
    if device.type == "cpu":
        return batch  # Lightning would look at all that is in it, each id included
    moved: Batch = move_data_to_device(batch, device)
    return moved


class TrainingDataModule(LightningDataModule):
    """Training and validation batches of one stage; as test batches, the benchmark's answers.

    Args:
        config: What to read, in which batches.
        source: Visual tokens of ``(media, start_seconds, end_seconds)``.
        tokenizer: The language model's.
        visual_dim: Width of the visual tokens.
        failures_path: Where unreadable videos are written down (``failures.jsonl`` of the run), or
            None.
        system_prompt: The reasoner's.
        padded: Whether the language model gets padded rows; see :class:`GlobalOrder`.
        seed: Of the order of the samples, and of what ``config.drop`` leaves out.

    The Trainer must accumulate ``accumulation(...)`` micro-batches a step; this is checked.
    """

    def __init__(
        self,
        config: DataConfig,
        source: TokenSource,
        tokenizer: PreTrainedTokenizerBase,
        *,
        visual_dim: int,
        failures_path: str | Path | None = None,
        system_prompt: str | None = None,
        padded: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # A rank whose share of a small validation set is empty is no error.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.config = config
        self.source = source
        self.tokenizer = tokenizer
        self.failures_path = failures_path
        self.system_prompt = system_prompt
        self.padded = padded
        self.seed = seed
        self.collator = Collator(visual_dim=visual_dim)
        self.train_examples = Corpora([])
        self.validation_examples = Corpora([])
        self._order: GlobalOrder | None = None
        self._failure_log: FailureLog | None = None
        self._epoch = 0
        self._samples_consumed = 0
        self._restored_samples: int | None = None
        self._uncounted = [0, 0]  # this rank's samples and unreadable videos since the last count
        self._seen_before_step = [0, 0]
        self._count_group: Any = None

    @override
    def setup(self, stage: str) -> None:
        """Open the corpora, once.

        Raises:
            ValueError: A file is missing or malformed, a corpus does not suit the stage, or nothing
                of one can be trained on.
        """
        if self.trainer is not None and not self.config.validation:
            self.trainer.limit_val_batches = 0  # an empty loader would be warned about
        if self._failure_log is not None:
            return
        # Indices are made here if there are none: the first start reads the annotations.
        self.train_examples = self._trainable(self.config.train)
        self.validation_examples = self._trainable(self.config.validation)
        if self.config.train:
            self._order = GlobalOrder(
                self.train_examples.sizes,
                [corpus.weight for corpus in self.config.train],
                global_batch_size=self.config.global_batch_size,
                seed=self.seed,
                # Characters: tokens are counted when a sample is loaded.
                lengths=self.train_examples.lengths,
                padded=self.padded,
                repeated_steps=self.config.overfit_batches,
            )
            self._tell_repetition()
        self._failure_log = FailureLog(
            self.failures_path,
            self.config.max_unreadable_fraction,
            len(self.train_examples) + len(self.validation_examples),
            setting="data.max_unreadable_fraction",
        )

    def _trainable(self, corpora: Sequence[CorpusConfig]) -> Corpora:
        """Open corpora without the examples that have no target."""
        config = self.config
        limit = PromptLimit(
            self.tokenizer, config.max_text_tokens, config.long_prompts, self.system_prompt
        )
        return open_trainable(corpora, limit, config.max_malformed_fraction, config.loss_on)

    def _tell_repetition(self) -> None:
        weights = [corpus.weight for corpus in self.config.train]
        sizes = self.train_examples.sizes
        wanted = sum(weight * size for weight, size in zip(weights, sizes, strict=True))
        if wanted < self.config.global_batch_size:
            logger.warning(
                "data.global_batch_size is %d, but an epoch of data.train has %g samples: each "
                "step shows examples more than once; lower it, or add data",
                *(self.config.global_batch_size, wanted),
            )

    @property
    def order(self) -> GlobalOrder:
        """The order of the training samples; reads the corpora if nothing has yet.

        Raises:
            ValueError: ``data.train`` is empty.
        """
        self.setup("fit")
        if self._order is None:
            raise ValueError("data.train is empty: list at least one training corpus")
        return self._order

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.config.num_epochs * self.order.steps_per_epoch

    @property
    def num_unreadable(self) -> int:
        """Samples of the whole run whose video could not be read, on all ranks together."""
        return self._seen()[1]

    @property
    def position(self) -> tuple[int, int]:
        """Epoch, and samples of it that all ranks together have consumed.

        A finished epoch is the next one's start.
        """
        if self._samples_consumed >= self.order.samples_per_epoch:
            return self._epoch + 1, 0
        return self._epoch, self._samples_consumed

    @override
    def train_dataloader(self) -> RankLoader[Batch]:
        rank, world_size = self._rank_and_world_size()
        config = self.config
        expected = accumulation(config.global_batch_size, config.batch_size, world_size)
        if self.trainer is not None and self.trainer.accumulate_grad_batches != expected:
            raise ValueError(
                f"the Trainer accumulates {self.trainer.accumulate_grad_batches} micro-batches a "
                f"step, but global_batch_size {config.global_batch_size} = batch_size "
                f"{config.batch_size} x {world_size} processes x {expected}: pass "
                f"accumulate_grad_batches={expected}"
            )
        sampler = GlobalOrderBatchSampler(
            self.order,
            lambda: self.position,
            batch_size=config.batch_size,
            rank=rank,
            world_size=world_size,
        )
        self._match_lightning_counters(config.batch_size * world_size)
        return self._loader(self.train_examples, batch_sampler=sampler)

    @override
    def val_dataloader(self) -> RankLoader[Batch]:
        return self._share(self.validation_examples)

    @override
    def test_dataloader(self) -> RankLoader[Batch]:
        if not self.config.benchmark:
            raise ValueError("data.benchmark is empty: list a corpus whose answers are tested")
        return self._share(self._trainable(self.config.benchmark))

    def _share(self, examples: Corpora) -> RankLoader[Batch]:
        """Return this rank's share of examples, each of which is in one rank's."""
        rank, world_size = self._rank_and_world_size()
        # Every world_size-th, so that each rank has a part of each corpus.
        share = range(rank, len(examples), world_size)
        return self._loader(examples, sampler=share, batch_size=self.config.batch_size)

    def _loader(self, examples: Corpora, **batching: Any) -> RankLoader[Batch]:  # noqa: ANN401
        config = self.config
        dataset = VideoTextDataset(
            examples, self.source, self.tokenizer, config.max_text_tokens, self.system_prompt
        )
        loader = DataLoader(
            dataset,
            collate_fn=self.collator,
            num_workers=config.num_workers,
            persistent_workers=config.num_workers > 0,
            worker_init_fn=leave_signals_to_the_run,
            pin_memory=torch.cuda.is_available(),
            # Its own generator: by default each new iterator draws from the global one, so that
            # building the loaders once more after a resume would change the dropout of the steps
            # that follow.
            generator=torch.Generator().manual_seed(self.seed),
            **batching,
        )
        return RankLoader(loader)

    def _rank_and_world_size(self) -> tuple[int, int]:
        """Rank and number of processes."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    @override
    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Leave out tokens of a training batch, on the host."""
        assert self.trainer is not None
        if not self.trainer.training or not any(self.config.drop.values()):
            return batch
        epoch, consumed = self.position
        first = consumed + self.trainer.global_rank * len(batch["ids"])
        visual = drop_tokens(batch["visual"], self.config.drop, self.seed, epoch, first)
        return {**batch, "visual": visual}

    @override
    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return move_batch(batch, device)

    @override
    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Count a batch that the loop has taken, and write its unreadable videos down.

        Raises:
            UnreadableVideosError: More videos were unreadable, on all ranks together, than
                ``max_unreadable_fraction`` allows. All ranks raise it, at the end of a step.
        """
        assert self._failure_log is not None
        assert self.trainer is not None
        # Counted when the loop takes a batch, not when a worker loads it.
        self._failure_log.write(batch["failures"])
        self._uncounted[0] += len(batch["ids"])
        self._uncounted[1] += len(batch["failures"])
        if not self.trainer.training:
            if self.trainer.world_size == 1:  # ranks have unequal shares of the validation set
                self._count_samples()
            return batch
        self._epoch, consumed = self.position
        self._samples_consumed = consumed + len(batch["ids"]) * self.trainer.world_size
        if self._samples_consumed % self.config.global_batch_size == 0:
            self._seen_before_step = self._seen()
            self._count_samples()
        return batch

    def _count_samples(self) -> None:
        """Add up what all ranks have seen since the last time, and hold it against the budget."""
        assert self._failure_log is not None
        assert self.trainer is not None
        counts = torch.tensor(self._uncounted)
        self._uncounted = [0, 0]
        if self.trainer.world_size > 1:
            if self._count_group is None:
                # On the host: a reduction on the device would make it wait for the device.
                self._count_group = torch.distributed.new_group(backend="gloo")
            torch.distributed.all_reduce(counts, group=self._count_group)
        self._failure_log.count(*counts.tolist())

    def _seen(self) -> list[int]:
        assert self._failure_log is not None
        return [self._failure_log.num_samples, self._failure_log.num_unreadable]

    @override
    def state_dict(self) -> dict[str, Any]:
        self.setup("fit")
        epoch, consumed = self._epoch, self._samples_consumed
        if self.trainer is not None:
            # A checkpoint written because a step failed must not count that step's batch.
            # Any: Lightning types the tracker as one with fewer counters than it has.
            progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
            # Batches that were taken and not finished.
            in_flight = max(progress.ready - progress.processed, 0)
            consumed -= in_flight * self.config.batch_size * self.trainer.world_size
        global_batch_size = self.config.global_batch_size
        undone = consumed // global_batch_size < self._samples_consumed // global_batch_size
        seen = self._seen_before_step if undone else self._seen()
        if consumed >= self.order.samples_per_epoch:
            epoch, consumed = epoch + 1, 0
        return {
            "epoch": epoch,
            "samples_consumed": consumed,
            "order": self._order_identity(),
            "samples_seen": seen[0],
            "samples_unreadable": seen[1],
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a position.

        Raises:
            ValueError: The order of the samples is not the one the position belongs to.
        """
        if state_dict["order"] != self._order_identity():
            raise ValueError(
                f"the checkpoint's samples were ordered by {state_dict['order']}, this run's by "
                f"{self._order_identity()}: to resume, restore the training corpora, their weights "
                "and limits, global_batch_size and seed; to train on other data, start a new run "
                "from this checkpoint"
            )
        assert self._failure_log is not None
        self._failure_log.num_samples = int(state_dict["samples_seen"])
        self._failure_log.num_unreadable = int(state_dict["samples_unreadable"])
        self._epoch = int(state_dict["epoch"])
        self._restored_samples = int(state_dict["samples_consumed"])
        # A checkpoint in the middle of an accumulated step has lost that step's gradients: the step
        # is done again.
        self._samples_consumed = (
            self._restored_samples // self.config.global_batch_size * self.config.global_batch_size
        )

    def _order_identity(self) -> dict[str, Any]:
        identity = self.order.identity  # opens the corpora if nothing has yet
        return {**identity, "ids": [corpus.ids_digest for corpus in self.train_examples.corpora]}

    def _match_lightning_counters(self, samples_at_once: int) -> None:
        """Once after a resume, give Lightning's batch counters the value of the position.

        Lightning restores its own count of one rank's micro-batches. With another number of
        processes or another micro-batch size it counts in another unit, and in the middle of an
        accumulated step it would not start over.
        """
        if self._restored_samples is None:
            return
        assert self.trainer is not None
        finished = self._restored_samples == 0 and self._epoch > 0
        consumed = self.order.samples_per_epoch if finished else self._samples_consumed
        self._restored_samples = None
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress
        if progress.current.processed == 0:
            return
        # In micro-batches of this rank.
        shift = consumed // samples_at_once - progress.current.processed
        for counts in (progress.current, progress.total):
            for name in ("ready", "started", "processed", "completed"):
                setattr(counts, name, getattr(counts, name) + shift)


class AlignmentDataModule(TrainingDataModule):
    """Stage 1's data (section 3.4.1): texts about videos, whose likelihood is eq. 6's objective.

    In the paper they are captions; any corpus with a prompt and a response will do.
    """


class InstructionDataModule(TrainingDataModule):
    """Stage 2's data (section 3.4.2): a mixture of questions, explanations and predictions."""
