"""The rivals' architectures learn 32 questions of the microworld by heart, as our model does."""

import json
import random
from pathlib import Path

import pytest
from tiny_training import EXPECTED_WARNINGS

from data_modules.corpus_index import open_corpora
from experiments.evaluate.run import answer_benchmark
from experiments.experiment_config import ExperimentConfig
from experiments.fit.run import fit
from experiments.train_baseline.__main__ import main
from experiments.trained_model import trained_model_identity
from vidreason.baselines.config import BaselineConfig
from vidreason.config import merge_config
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.export import reasoner_of_checkpoint
from vidreason.microworld.corpora import WorldConfig, write_world

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
NUM_QUESTIONS = 32


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen videos with their questions."""
    root = tmp_path_factory.mktemp("world")
    write_world(root, WorldConfig(num_videos={"train": 16}))
    return root


def experiment(rival: str, world: Path, run: Path, *more: str) -> ExperimentConfig:
    """Stage 2 of a rival's architecture from nothing, on 32 questions."""
    return merge_config(
        ExperimentConfig,
        [
            str(CONFIGS / name)
            for name in (
                "microworld.yaml",
                "microworld_stage2.yaml",
                f"baselines/{rival}_architecture.yaml",
            )
        ],
        [
            f"run_dir={run}",
            f"store.path={world}/store",
            "initial_checkpoint=''",
            f"data.train=[{questions(world)}]",
            "data.validation=[]",
            f"data.benchmark=[{questions(world)}]",
            "data.batch_size=32",
            "data.num_epochs=30",
            "data.num_workers=0",
            "trainer.log_every_n_steps=1",
            "controls=[none,blind]",
            "optimizer.warmup_steps=5",
            "optimizer.weight_decay=0",
            *more,
        ],
    )


def questions(world: Path) -> str:
    return f"{{reader: nextqa, root: {world}/nextqa, split: train, limit: {NUM_QUESTIONS}}}"


def num_right(runs: dict[str, list[BenchmarkPrediction]], name: str) -> int:
    assert len(runs[name]) == NUM_QUESTIONS
    return sum(bool(row.correct) for row in runs[name])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@EXPECTED_WARNINGS
@pytest.mark.parametrize("rival", ["video_chatgpt", "video_llama"])
def test_a_rival_learns_32_questions_by_heart(rival: str, world: Path, tmp_path: Path) -> None:
    config = experiment(rival, world, tmp_path / "run")
    fit(config)
    runs = answer_benchmark(config)
    assert num_right(runs, "full model") >= 0.95 * NUM_QUESTIONS
    # Words alone are learnt by heart too, but not all: measured are 17 and 25.
    assert num_right(runs, "blind (no visual tokens)") <= 0.85 * NUM_QUESTIONS


@pytest.mark.slow
@pytest.mark.timeout(2400)
@EXPECTED_WARNINGS
def test_sevilas_answerer_and_localizer_learn_32_samples_by_heart(
    world: Path, tmp_path: Path
) -> None:
    config = experiment("sevila", world, tmp_path / "run", "data.num_epochs=45")
    fit(config)
    answerer = str(tmp_path / "answerer")
    reasoner, provenance = reasoner_of_checkpoint(config.run_dir)
    reasoner.save_pretrained(answerer, provenance=provenance)  # with its adapters
    config.model = answerer
    # 32 frames, with labels that say nothing about them: all are learnt by heart.
    some = f"{{reader: nextqa, root: {world}/nextqa, split: train, limit: {NUM_QUESTIONS // 8}}}"
    draw = random.Random(0)
    labels = {
        example.id: [draw.random() < 0.5 for _ in range(8)]
        for example in list(open_corpora(config.data.train))[: NUM_QUESTIONS // 8]
    }
    kept = {"answerer": trained_model_identity(config).model, "labels": labels}
    for split in ("train", "validation"):
        path = tmp_path / "localizer" / f"pseudo_labels-{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(kept))
    settings = [
        "kind=sevila_localizer",
        "device=cpu",
        f"run_dir={tmp_path}/localizer",
        f"sevila_localizer.answerer={answerer}",
        f"sevila_localizer.store={{path: {world}/store, dtype: float32}}",
        f"sevila_localizer.data.train=[{some}]",
        f"sevila_localizer.data.validation=[{some}]",
        "sevila_localizer.num_epochs=120",
        "sevila_localizer.optimizer={learning_rate: 1.0e-3, warmup_steps: 5, weight_decay: 0}",
    ]
    assert main(settings) == 0
    scores = json.loads((tmp_path / "localizer" / "scores.json").read_text())
    config.baselines["sevila"] = BaselineConfig(
        kind="sevila_decoder",
        weights={
            "answerer": answerer,
            "localizer": f"{tmp_path}/localizer/localizer",
        },
    )
    runs = answer_benchmark(config)
    assert scores["num_samples"] == NUM_QUESTIONS
    assert 0.3 <= scores["share_helping"] <= 0.7
    assert scores["held_out"]["accuracy"] >= 0.95
    assert num_right(runs, "full model") >= 0.95 * NUM_QUESTIONS
    assert num_right(runs, "sevila [re-composed]") >= 0.95 * NUM_QUESTIONS
