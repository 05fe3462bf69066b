"""Report of an evaluation for people: tables, ``metrics.json``, submissions, the page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.kept_runs import LESS_AND_LESS, ROW_NAMES
from vidreason.baselines.published import published_table
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.manifest import Manifest
from vidreason.evaluation.page.pictures import PictureSource
from vidreason.evaluation.page.report_page import EvaluationReport, write_report_page
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.predictions.submissions import write_submissions
from vidreason.evaluation.scoreboard import score_runs, scoring_protocols
from vidreason.evaluation.tables import Table

PAGE_FILE = "report.html"


def write_report(
    folder: Path | None,
    runs: Mapping[str, Sequence[BenchmarkPrediction]],
    config: EvaluationConfig,
    *,
    model: str,
    step: int | None = None,
    validation: Sequence[BenchmarkPrediction] = (),
    manifests: Mapping[str, Manifest] | None = None,
    incomplete: Mapping[str, str] | None = None,
    pictures: PictureSource | None = None,
) -> None:
    """Print the tables of ``runs``; write them, ``metrics.json``, ``submissions`` and the page.

    With baselines among the runs, what others report on their benchmarks follows, in a table of its
    own.

    Args:
        folder: Where the files go; None to print only.
        runs: Predictions by row of the tables.
        config: How they are scored.
        model: Name of the model, for ``metrics.json``.
        step: Steps of this run after which the model was written; None of another run's model.
        validation: The full model's predictions that temperatures and conformal sets are fitted on.
        manifests: What the rows were made with, as far as it is known.
        incomplete: Corpora of which questions could not be read, and how many were.
        pictures: Of the page's questions; None for a page without frames.
    """
    full = ROW_NAMES["none"]
    board = score_runs(
        runs,
        config,
        full=full,
        evidence=[ROW_NAMES[control] for control in LESS_AND_LESS],
        validation=validation,
        incomplete=incomplete,
    )
    published = _published(runs, manifests or {})
    if published is not None:
        board = replace(board, tables=(*board.tables, published))
    protocols = scoring_protocols(config)
    measures = {corpus: protocol.measure_name for corpus, protocol in protocols.items()}
    scored = {name: manifest.scored_by(measures) for name, manifest in (manifests or {}).items()}
    if full in scored:
        board.metrics["notes"].append(
            f"protocol {scored[full].protocol_hash}: numbers of another one are not comparable "
            "with these"
        )
    if folder is None:
        print(board.to_text())
        return
    folder.mkdir(parents=True, exist_ok=True)
    submissions: list[Path] = []
    try:
        submissions = write_submissions(runs.get(full, ()), folder / "submissions")
    except ValueError as error:  # of a part of a benchmark, which is nothing to submit
        board.metrics["notes"].append(f"no submission file: {error}")
    metrics = {
        "model": model,
        **({} if step is None else {"step": step}),
        **board.metrics,
        "submissions": [str(path.relative_to(folder)) for path in submissions],
        "manifests": {name: manifest.as_json() for name, manifest in scored.items()},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    (folder / "tables.md").write_text(board.to_markdown() + "\n")
    report = EvaluationReport(
        title="Evaluation",
        facts={"model": model} | ({} if step is None else {"step": str(step)}),
        runs=runs,
        tables=board.tables,
        notes=board.metrics["notes"],
        scores=board.scores,
        protocols=protocols,
    )
    write_report_page(
        folder / PAGE_FILE, report, pictures=pictures, num_pictured=config.report_items
    )
    print(board.to_text())


def _published(
    runs: Mapping[str, Sequence[BenchmarkPrediction]], manifests: Mapping[str, Manifest]
) -> Table | None:
    """Return what others report on the benchmarks that baselines were asked."""
    baselines = [name for name, manifest in manifests.items() if manifest.system]
    return published_table({row.corpus for name in baselines for row in runs[name]})
