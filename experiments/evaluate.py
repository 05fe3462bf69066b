"""Score a trained reasoner on the benchmark corpora, beside controls that see less.

Every answer is written down. In ``<run_dir>/evaluation`` are then
``predictions-<control>.jsonl``, ``metrics.json`` and
``tables.md``.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_modules.corpus_index import open_corpora
from experiments.experiment_config import ExperimentConfig
from experiments.program import run_program
from experiments.trained_model import load_trained_model, reasoner_folder
from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.controls import Control
from vidreason.evaluation.metrics import score_predictions
from vidreason.evaluation.predictions_file import BenchmarkPrediction, write_predictions
from vidreason.evaluation.priors import fit_majority, majority_predictions
from vidreason.evaluation.report import Table, accuracy_table, difference_table, score_rows
from vidreason.example import Example

ROW_NAMES: dict[Control, str] = {
    "none": "full model",
    "blind": "blind (no visual tokens)",
    "single_frame": "single frame",
    "shuffled_frames": "shuffled frames",
    "shuffled": "another video's tokens",
    "random": "random visual tokens",
}
MAJORITY = "majority answer"


def evaluate(config: ExperimentConfig) -> dict[str, list[BenchmarkPrediction]]:
    """Answer the benchmark under each of ``config.controls``; print the tables and write all files.

    Returns:
        The judged predictions by row of the table.

    Raises:
        ValueError: No benchmark is configured, or there is no trained model.
    """
    runs = answer_benchmark(config)
    write_report(evaluation_folder(config), runs, model=str(reasoner_folder(config)))
    return runs


def answer_benchmark(config: ExperimentConfig) -> dict[str, list[BenchmarkPrediction]]:
    """The part of :func:`evaluate` before the tables: answers, written down and returned."""
    if not config.data.benchmark:
        raise ValueError("data.benchmark is empty; name the corpora to score")
    if config.evaluation.control != "none":
        raise ValueError(
            f"evaluation.control is {config.evaluation.control!r}, but evaluate shows one row for "
            f"each of `controls`: set controls=[{config.evaluation.control}]"
        )
    examples = list(open_corpora(config.data.benchmark))
    reasoner, source = load_trained_model(config)
    runs: dict[str, list[BenchmarkPrediction]] = {}
    for control in config.controls:
        print(f"evaluate: {len(examples)} questions, {ROW_NAMES[control]}", file=sys.stderr)
        predictions = evaluate_examples(
            reasoner,
            source,
            examples,
            dataclasses.replace(config.evaluation, control=control),
            config.decoding,
            progress=True,
        )
        write_predictions(predictions_file(config, control), predictions)
        runs[ROW_NAMES[control]] = predictions
    majority = _majority(config, examples)
    if majority:
        runs[MAJORITY] = majority
    return runs


def evaluation_folder(config: ExperimentConfig) -> Path:
    """Where the evaluation of a run is kept."""
    return Path(config.run_dir) / "evaluation"


def predictions_file(config: ExperimentConfig, control: Control) -> Path:
    """Where the predictions under one control are kept."""
    return evaluation_folder(config) / f"predictions-{control}.jsonl"


def write_report(
    folder: Path, runs: Mapping[str, Sequence[BenchmarkPrediction]], model: str
) -> None:
    """Print the tables of ``runs`` and write ``metrics.json`` and ``tables.md``."""
    tables = result_tables(runs)
    metrics = {
        "model": model,
        "runs": {name: score_rows(score_predictions(rows)) for name, rows in runs.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    (folder / "tables.md").write_text("\n\n".join(table.to_markdown() for table in tables) + "\n")
    print("\n\n".join(table.to_text() for table in tables))


def result_tables(runs: Mapping[str, Sequence[BenchmarkPrediction]]) -> list[Table]:
    """For each corpus, accuracies, and differences of the full model to every other row."""
    tables = []
    first = next(iter(runs.values()))
    for corpus in dict.fromkeys(row.corpus for row in first if row.reference is not None):
        own = {
            name: rows for name, rows in runs.items() if any(row.corpus == corpus for row in rows)
        }
        tables.append(accuracy_table(own, corpus))
        if ROW_NAMES["none"] in own and len(own) > 1:
            tables.append(difference_table(own, corpus, against=ROW_NAMES["none"]))
    return tables


def _majority(config: ExperimentConfig, examples: Sequence[Example]) -> list[BenchmarkPrediction]:
    """The most frequent training answers, for the benchmark corpora that were trained on."""
    train = list(open_corpora(config.data.train))
    known = {example.corpus for example in train if example.answers or example.options}
    return majority_predictions(
        fit_majority(train), [example for example in examples if example.corpus in known]
    )


if __name__ == "__main__":
    sys.exit(
        run_program(
            evaluate, program="evaluate", description="Score a reasoner on the benchmark corpora."
        )
    )
