"""The page of an evaluation: tables, bars, calibration, and a browser of its questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import isnan
from pathlib import Path

from vidreason.evaluation.cells import Cell
from vidreason.evaluation.confidence.calibration import calibration_error, risk_coverage
from vidreason.evaluation.confidence.confidences import (
    Confidences,
    choice_confidences,
    event_confidences,
    next_event_confidences,
)
from vidreason.evaluation.page.charts import (
    Bar,
    bars_figure,
    line_chart,
    reliability_chart,
)
from vidreason.evaluation.page.elements import (
    data_element,
    header_element,
    table_element,
    write_page,
)
from vidreason.evaluation.page.items import browser_data
from vidreason.evaluation.page.pictures import PictureSource
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.protocols import ACCURACY, PROTOCOLS, Protocol
from vidreason.evaluation.tables import Table

_HERE = Path(__file__)
NUM_BINS = 15
"""Bins of a reliability diagram."""
_MAX_POINTS = 200  # of a curve, about: each takes room in the page


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """Content of the page of an evaluation."""

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    """Shown below the title: what the numbers are of."""
    runs: Mapping[str, Sequence[BenchmarkPrediction]]
    """By name. The first is the one that diagrams and the browser begin with."""
    tables: Sequence[Table]
    notes: Sequence[str] = ()
    """Shown below the tables: what has to be known about them."""
    scores: Mapping[str, Sequence[Cell]]
    """Cells of each run, which the bars show."""
    protocols: Mapping[str, Protocol] = field(default_factory=lambda: PROTOCOLS)
    """Protocols that ``scores`` were counted by."""


def write_report_page(
    path: Path,
    report: EvaluationReport,
    *,
    pictures: PictureSource | None = None,
    num_pictured: int = 0,
) -> None:
    """Write one HTML file that needs no other file and no network.

    Args:
        path: Where to.
        report: What is shown.
        pictures: Where frames come from; None for none.
        num_pictured: The frames of at most this many questions are in the page.

    Raises:
        ValueError: There is no run, or a score is not finite.
    """
    if not report.runs:
        raise ValueError("there is no run to report on")
    data = browser_data(
        report.runs, pictures=pictures, num_pictured=num_pictured, protocols=report.protocols
    )
    first = next(iter(report.runs))
    sections = [
        header_element(report.title, report.facts),
        '<nav aria-label="Contents"><a href="#results">Results</a> '
        '<a href="#calibration">Calibration</a> <a href="#questions">Questions</a></nav>',
        '<main><h2 id="results">Results</h2>',
        *(table_element(table, strong=first) for table in report.tables),
        *(f"<p>{escape(note)}</p>" for note in report.notes),
        *_bars(report.scores),
        '<h2 id="calibration">Calibration</h2>',
        *_calibration(first, report.runs[first]),
        '<h2 id="questions">Questions</h2>',
        _HERE.with_name("browser.html").read_text(),
        "</main>",
        data_element("report-data", data),
    ]
    write_page(
        path,
        report.title,
        sections,
        style=_HERE.with_name("browser.css").read_text(),
        script=_HERE.with_name("browser.js").read_text(),
    )


def _bars(scores: Mapping[str, Sequence[Cell]]) -> list[str]:
    """For each corpus, its groups of questions with a bar a run."""
    by_corpus: dict[str, dict[str, dict[str, Bar]]] = {}
    for name, of_run in scores.items():
        for score in of_run:
            bars = by_corpus.setdefault(score.corpus, {}).setdefault(_label(score), {})
            mean, low, high = score.score
            # One video has no interval.
            bars[name] = (mean, None, None) if isnan(low) else (mean, low, high)
    return [
        bars_figure(corpus, groups, list(scores), "With 95% intervals over videos.")
        for corpus, groups in by_corpus.items()
    ]


def _label(score: Cell) -> str:
    named = score.measure in (ACCURACY, score.group)
    return f"{score.group} (n={score.num_items}{'' if named else f', {score.measure}'})"


def _calibration(name: str, predictions: Sequence[BenchmarkPrediction]) -> list[str]:
    """Diagrams of one run: choices by corpus, printed confidences and computed probabilities."""
    corpora = dict.fromkeys(row.corpus for row in predictions)
    kinds = {
        f"{corpus}, choices": choice_confidences(
            [row for row in predictions if row.corpus == corpus]
        )
        for corpus in corpora
    }
    kinds["predicted events"] = event_confidences(predictions)
    kinds["most probable next events"] = next_event_confidences(predictions)
    figures = [_diagrams(f"{name}: {kind}", row) for kind, row in kinds.items() if row.values]
    if not figures:
        return ["<p>No answer has a confidence: no options were scored, no events predicted.</p>"]
    return [
        '<p class="muted">The confidence of a choice is its share of the options\' likelihoods per '
        "token (softmax); that of an event is the number that the model prints beside it, and it "
        "counts as right if it is one of the reference's, word for word. That of the most probable "
        "next event is computed of its likelihood.</p>",
        *figures,
    ]


def _diagrams(title: str, confidences: Confidences) -> str:
    error = calibration_error(confidences.values, confidences.correct, num_bins=NUM_BINS)
    curve = risk_coverage(confidences.values, confidences.correct)
    step = max(len(curve.risk) // _MAX_POINTS, 1)
    points = list(zip(curve.coverage, curve.risk, strict=True))
    # Each step-th point, and the last one, where all answers are given.
    points = [*points[:-1:step], points[-1]]
    without = (
        f", {confidences.num_without} more without confidence" if confidences.num_without else ""
    )
    risk = line_chart(f"{title}, share of wrong answers", [("risk", points)], "share answered")
    return (
        f'<h3>{escape(title)}</h3><div class="charts"><figure>{reliability_chart(title, error)}'
        f"<figcaption>ECE {error.expected:.3f} ({NUM_BINS} bins, "
        f"n={len(confidences.values)}{without}). Bars: share of right answers; dots: at their mean "
        "confidence; below: how many."
        "</figcaption></figure>"
        f"<figure>{risk}<figcaption>Share of wrong answers if only the most confident are given; "
        f"area {curve.area:.3f}.</figcaption></figure></div>"
    )
