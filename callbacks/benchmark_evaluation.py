"""Benchmark accuracy during training, scored as ``experiments.evaluate`` scores it."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, cast

import torch.distributed
from lightning import LightningModule, Trainer
from typing_extensions import override

from callbacks.step_callback import StepCallback
from vidreason.evaluation.added_protocols import corpus_protocols
from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.cells import score_predictions
from vidreason.evaluation.config import Control, EvaluationConfig
from vidreason.evaluation.controls import why_not_made
from vidreason.evaluation.predictions.row_files import write_predictions
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.protocols import ALL
from vidreason.evaluation.reasoner_answerer import reasoner_answerer
from vidreason.example import Example, spread_examples
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import TokenSource
from vidreason.reasoning.reasoner_config import DecodingConfig


def accuracy_name(corpus: str, tested: Collection[str]) -> str:
    """Return ``val/<corpus>_accuracy``, or ``test/<corpus>_accuracy`` of a corpus in ``tested``."""
    return f"{'test' if corpus in tested else 'val'}/{corpus}_accuracy"


class BenchmarkEvaluation(StepCallback):
    """Answer benchmark questions at each validation and every ``config.every_n_steps`` steps.

    Logs ``val/<corpus>_accuracy`` (a fraction), ready for a checkpoint's ``monitor``; of a test
    split ``test/<corpus>_accuracy``, so that nobody chooses by it unawares. Each rank answers its
    share, which needs a strategy that keeps whole parameters on each rank (one device, or DDP).
    Training is not changed by it: modes, gradients and random state are as before.

    Args:
        examples: The questions; ``config.limit`` of each corpus are used.
        source: Visual tokens of ``(media, start_seconds, end_seconds)``.
        config: How to answer, and when.
        decoding: How to generate open-ended answers.
        predictions_dir: Where to keep the predictions, one ``step-<step>.jsonl`` each time; None to
            drop them.
        control: Replacement of the visual tokens.
        tested: Corpora of which questions are of a test split.

    Raises:
        ValueError: The control cannot be made of these questions.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        source: TokenSource,
        config: EvaluationConfig,
        decoding: DecodingConfig,
        predictions_dir: str | Path | None = None,
        control: Control = "none",
        tested: Collection[str] = (),
    ) -> None:
        self.examples = spread_examples(examples, config.limit)
        if self.examples and (reason := why_not_made(control, self.examples)):
            raise ValueError(f"controls: the first of them is for training, and {reason}")
        self.source = source
        self.config = config
        self.decoding = decoding
        self.control = control
        self.tested = tested
        self.protocols = corpus_protocols(config)
        self.predictions_dir = None if predictions_dir is None else Path(predictions_dir)
        self._accuracies: dict[str, float] = {}
        self._step_evaluated = -1
        self.every_n_steps = config.every_n_steps or 0

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.examples and not self.config.every_n_steps and not trainer.enable_validation:
            raise ValueError(
                "the benchmarks would never be evaluated: evaluation.every_n_steps is 0 and there "
                "is no validation; set it, or list corpora in data.validation"
            )

    @override
    def on_step_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._evaluate_and_log(trainer, pl_module)

    @override
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._evaluate_and_log(trainer, pl_module)

    def _evaluate_and_log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.examples:
            return
        # A step that is also a validation's is evaluated once, and logged for both.
        if trainer.global_step != self._step_evaluated:
            self._step_evaluated = trainer.global_step
            predictions = self._evaluate(trainer, pl_module)
            ids = [example.id for example in self.examples]
            scores = score_predictions(predictions, ids, self.protocols)
            self._accuracies = {
                score.corpus: score.score.mean for score in scores if score.group == ALL
            }
            if self.predictions_dir is not None and trainer.is_global_zero:
                name = f"step-{trainer.global_step:08d}.jsonl"
                write_predictions(self.predictions_dir / name, predictions)
        for corpus, accuracy in self._accuracies.items():
            # All ranks have the same value: there is nothing to reduce.
            name = accuracy_name(corpus, self.tested)
            pl_module.log(name, accuracy, rank_zero_only=False, sync_dist=False)

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule) -> list[BenchmarkPrediction]:
        reasoner = pl_module.reasoner
        assert isinstance(reasoner, VideoReasoner)
        # Every rank answers its share, in turn.
        examples = self.examples[trainer.global_rank :: trainer.world_size]
        with trainer.precision_plugin.forward_context():
            answerer = reasoner_answerer(
                # All of them, so that the control is the same however many ranks there are.
                *(reasoner, self.source, self.examples, self.config, self.decoding, self.control)
            )
            predictions = evaluate_examples(answerer, examples, self.config)
        if trainer.world_size == 1:
            return predictions
        gathered: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(gathered, predictions)
        shares = cast(list[list[BenchmarkPrediction]], gathered)
        return [prediction for share in shares for prediction in share]
