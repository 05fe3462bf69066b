"""Benchmark questions with their visual tokens, loaded by worker processes and cut over ranks."""

from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from data_modules.corpora import DataConfig
from data_modules.corpus_index import open_corpora
from data_modules.rank_loader import RankLoader
from vidreason.evaluation.benchmark import (
    EvaluationConfig,
    LoadedExample,
    load_examples,
    question_batches,
)
from vidreason.evaluation.controls import controlled_source
from vidreason.example import Example
from vidreason.perception.visual_tokens import TokenSource


class BenchmarkDataModule(LightningDataModule):
    """The questions of ``data.benchmark``; its batches go to ``evaluate_batches``.

    Nothing is shuffled, repeated or padded: over all ranks each question comes exactly once.

    Args:
        config: Which corpora, and how many worker processes.
        source: Visual tokens of ``(media, start_seconds, end_seconds)``, before any control.
        evaluation: The control and the batch size.
    """

    def __init__(
        self, config: DataConfig, source: TokenSource, evaluation: EvaluationConfig
    ) -> None:
        super().__init__()
        self.config = config
        self.source = source
        self.evaluation = evaluation
        self.examples: list[Example] = []

    @override
    def setup(self, stage: str) -> None:
        """Read the corpora, once.

        Raises:
            ValueError: ``data.benchmark`` is empty, or a file is missing or malformed.
        """
        if self.examples:
            return
        if not self.config.benchmark:
            raise ValueError("data.benchmark is empty: list at least one corpus to be scored")
        self.examples = list(open_corpora(self.config.benchmark))

    @override
    def test_dataloader(self) -> RankLoader[list[LoadedExample]]:
        self.setup("test")
        evaluation = self.evaluation
        source = controlled_source(self.source, self.examples, evaluation.control, evaluation.seed)
        rank, world_size = 0, 1
        if self.trainer is not None:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
        batches = question_batches(self.examples, evaluation.batch_size)[rank::world_size]
        loader = DataLoader(
            QuestionBatches(source, batches),
            batch_size=None,
            num_workers=self.config.num_workers,
        )
        return RankLoader(loader)


class QuestionBatches(Dataset[list[LoadedExample]]):
    """Whole batches of questions by index, so that a video's questions are loaded together."""

    def __init__(self, source: TokenSource, batches: list[list[Example]]) -> None:
        self.source = source
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[LoadedExample]:
        return load_examples(self.source, self.batches[index])
