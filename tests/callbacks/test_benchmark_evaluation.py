"""Benchmark accuracy during training: when, how often, and without a trace in the training."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from callbacks.benchmark_evaluation import BenchmarkEvaluation
from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.predictions.row_files import read_predictions
from vidreason.evaluation.reasoner_answerer import reasoner_answerer
from vidreason.example import Example
from vidreason.model import DecodingConfig, VideoReasoner
from vidreason.perception.visual_tokens import VisualTokens

GREEDY = DecodingConfig(strategy="greedy", max_new_tokens=2)


class Training(LightningModule):
    """Trains the fusion core to nothing of use, with dropout."""

    def __init__(self, reasoner: VideoReasoner) -> None:
        super().__init__()
        self.reasoner = reasoner
        self.losses: list[float] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        weights = torch.cat([p.flatten() for p in self.reasoner.fusion.parameters()])
        loss = (
            torch.nn.functional.dropout(weights, 0.5, self.reasoner.fusion.training).square().sum()
        )
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.reasoner.fusion.parameters(), lr=0.01)


class Batches:
    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (torch.zeros(1) for _ in range(self.number))


def questions() -> list[Example]:
    return [
        Example(
            id=f"{corpus}:{n}", corpus=corpus, media=str(n), video_id=str(n), prompt=f"which {n}",
            response="x", options=("x", "yy", "zzz"), answer_index=n % 3,
        )
        for corpus in ("nextqa", "star")
        for n in range(6)
    ]  # fmt: skip


@pytest.fixture
def source(make_visual_tokens: Callable[..., VisualTokens]) -> Callable[..., VisualTokens]:
    return lambda media, *_: make_visual_tokens(2, 1, seed=int(media))


def train(
    reasoner: VideoReasoner, callbacks: list[Callback], folder: Path, **settings: Any
) -> tuple[Training, Trainer]:
    torch.manual_seed(7)
    module = Training(reasoner)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=6,
        logger=CSVLogger(folder),
        callbacks=callbacks,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **settings,
    )
    trainer.fit(module, Batches(12), Batches(1))
    return module, trainer


def callback(
    source: Callable[..., VisualTokens], folder: Path, **config: Any
) -> BenchmarkEvaluation:
    return BenchmarkEvaluation(
        questions(), source, EvaluationConfig(**config), GREEDY, folder / "p"
    )


@pytest.mark.filterwarnings("ignore:Found .* module.* in eval mode")
def test_accuracies_are_logged_at_steps_and_at_validation(
    tiny_reasoner: VideoReasoner, source: Callable[..., VisualTokens], tmp_path: Path
) -> None:
    evaluation = callback(source, tmp_path, every_n_steps=2)
    evaluation.tested = {"star"}
    _, trainer = train(
        tiny_reasoner, [evaluation], tmp_path, accumulate_grad_batches=2, val_check_interval=6
    )
    names = sorted(path.name for path in (tmp_path / "p").iterdir())
    assert names == [
        f"step-{step:08d}.jsonl" for step in (2, 3, 4, 6)
    ]  # 3: a validation; 0: no sanity check
    answerer = reasoner_answerer(tiny_reasoner, source, questions(), evaluation.config, GREEDY)
    final = evaluate_examples(answerer, questions(), evaluation.config)
    assert read_predictions(tmp_path / "p/step-00000006.jsonl") == final
    for corpus, split in (("nextqa", "val"), ("star", "test")):
        right = [row.correct for row in final if row.corpus == corpus]
        logged = trainer.callback_metrics[f"{split}/{corpus}_accuracy"]
        assert float(logged) == pytest.approx(sum(right) / 6)
    assert trainer.logger is not None
    trainer.logger.save()
    metrics = next(tmp_path.rglob("metrics.csv")).read_text().splitlines()
    assert "val/nextqa_accuracy" in metrics[0]


@pytest.mark.filterwarnings("ignore:Found .* module.* in eval mode")
def test_training_is_the_same_with_and_without_it(
    tiny_reasoner: VideoReasoner, source: Callable[..., VisualTokens], tmp_path: Path
) -> None:
    start = {name: value.clone() for name, value in tiny_reasoner.state_dict().items()}
    plain, _ = train(tiny_reasoner, [], tmp_path / "plain")
    tiny_reasoner.load_state_dict(start)
    evaluation = callback(source, tmp_path, every_n_steps=1, limit=2)
    watched, _ = train(tiny_reasoner, [evaluation], tmp_path / "watched")
    assert watched.losses == plain.losses
    assert len(set(plain.losses)) == 6
    assert len(read_predictions(tmp_path / "p/step-00000001.jsonl")) == 4  # two a benchmark


@pytest.mark.filterwarnings("ignore:Found .* module.* in eval mode")
def test_an_evaluation_that_would_never_happen_is_an_error(
    tiny_reasoner: VideoReasoner, source: Callable[..., VisualTokens], tmp_path: Path
) -> None:
    config = EvaluationConfig(every_n_steps=1, limit=1)
    with pytest.raises(ValueError, match="controls: the first of them is for training, and the co"):
        BenchmarkEvaluation(questions()[:6], source, config, GREEDY, control="shuffled")
    with pytest.raises(ValueError, match=r"evaluation.every_n_steps is 0 and there\s+is no valid"):
        train(tiny_reasoner, [callback(source, tmp_path)], tmp_path, limit_val_batches=0)
