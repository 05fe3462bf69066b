"""Score a trained reasoner on the benchmark corpora, beside controls that see less.

Every answer is written down when it is given: started again after a kill, the program answers what
is missing. Under ``torchrun`` or ``srun``, or with ``trainer.devices=N``, several processes share
the questions. In ``<run_dir>/evaluation`` are then ``predictions-<control>.jsonl``,
``metrics.json`` and ``tables.md``; the first line of the predictions says what they were made with.
"""

import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from data_modules.corpus_index import open_corpora
from experiments.experiment_config import ExperimentConfig
from experiments.program import run_program
from experiments.ranks import Ranks, started_ranks
from experiments.trained_model import load_trained_model, reasoner_folder, trained_model_identity
from vidreason.evaluation.benchmark import EvaluationConfig, answer_batches, question_batches
from vidreason.evaluation.controls import Control, controlled_source
from vidreason.evaluation.kept_predictions import KeptPredictions
from vidreason.evaluation.manifest import Manifest, make_manifest
from vidreason.evaluation.metrics import score_predictions
from vidreason.evaluation.predictions_file import BenchmarkPrediction, write_predictions
from vidreason.evaluation.priors import fit_majority, majority_predictions
from vidreason.evaluation.report import Table, accuracy_table, difference_table, score_rows
from vidreason.example import Example
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import TokenSource
from vidreason.video.failures import FailureLog

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
        The judged predictions by row of the table; of several processes, to the first only.

    Raises:
        ValueError: No benchmark is configured, there is no trained model, or the folder holds
            answers that were made otherwise.
    """
    runs = answer_benchmark(config)
    if runs:
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
    runs: dict[str, list[BenchmarkPrediction]] = {}
    with started_ranks(config) as ranks:
        examples = ranks.on_first(lambda: list(open_corpora(config.data.benchmark)))
        identity = trained_model_identity(config)
        # Loaded when the first question is asked: there may be none left.
        load = functools.cache(lambda: load_trained_model(config, ranks.device))
        manifests = {
            control: make_manifest(
                examples, identity, _evaluation(config, control), config.decoding
            )
            for control in config.controls
        }
        for control, manifest in manifests.items():
            runs[ROW_NAMES[control]] = _answer(config, ranks, load, examples, control, manifest)
        if not ranks.is_first:
            return {}
        majority = _majority(config, examples)
        if majority:
            runs[MAJORITY] = majority
            manifest = _majority_manifest(next(iter(manifests.values())), majority)
            write_predictions(predictions_file(config, "majority"), majority, manifest.as_json())
    return runs


def evaluation_folder(config: ExperimentConfig) -> Path:
    """Where the evaluation of a run is kept."""
    return Path(config.run_dir) / "evaluation"


def predictions_file(config: ExperimentConfig, control: Control | Literal["majority"]) -> Path:
    """Where the predictions under one control are kept."""
    return evaluation_folder(config) / f"predictions-{control}.jsonl"


def _evaluation(config: ExperimentConfig, control: Control) -> EvaluationConfig:
    return replace(config.evaluation, control=control)


def _answer(
    config: ExperimentConfig,
    ranks: Ranks,
    load: Callable[[], tuple[VideoReasoner, TokenSource]],
    examples: Sequence[Example],
    control: Control,
    manifest: Manifest,
) -> list[BenchmarkPrediction]:
    """Answer what is missing under one control; the rows of all ranks, to the first only."""
    kept = KeptPredictions(predictions_file(config, control), manifest)
    answered = ranks.on_first(kept.recover)
    # Batches are cut from all questions, whatever is missing and whoever answers: a question always
    # has the same others beside it, and so the same bits.
    missing = [
        batch
        for batch in question_batches(examples, config.evaluation.batch_size)
        if any(example.id not in answered for example in batch)
    ]
    if ranks.is_first:
        done = f", {len(answered)} of them answered before" if answered else ""
        print(f"evaluate: {len(examples)} questions, {ROW_NAMES[control]}{done}", file=sys.stderr)
    own = missing[ranks.rank :: ranks.world_size]
    if own:
        reasoner, source = load()
        failures = FailureLog(None, config.evaluation.max_unreadable_fraction, len(examples))
        failures.count(len(answered), 0)
        rows_of_batches = answer_batches(
            reasoner,
            controlled_source(source, examples, control, config.evaluation.seed),
            own,
            config.evaluation,
            config.decoding,
            failures,
            progress=ranks.is_first,
        )
        for rows in rows_of_batches:
            kept.append([row for row in rows if row.id not in answered])
            ranks.end_if_orphaned()

    def finish() -> list[BenchmarkPrediction]:
        return kept.finish([example.id for example in examples])

    return ranks.on_first(finish)


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


def _majority_manifest(manifest: Manifest, rows: Sequence[BenchmarkPrediction]) -> Manifest:
    """That of a run over the same questions, as far as the training answers say anything there."""
    known = {row.corpus for row in rows}

    def own(hashes: Mapping[str, str]) -> dict[str, str]:
        return {corpus: value for corpus, value in hashes.items() if corpus in known}

    return replace(
        manifest,
        questions=own(manifest.questions),
        prompts=own(manifest.prompts),
        scoring=own(manifest.scoring),
        model=MAJORITY,
        perceiver="",
        control="majority",
        seed=0,
    )


if __name__ == "__main__":
    sys.exit(
        run_program(
            evaluate, program="evaluate", description="Score a reasoner on the benchmark corpora."
        )
    )
