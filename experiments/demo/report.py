"""The demo's report: one HTML file that needs no network, and beside it one of all questions."""

import platform
from collections.abc import Mapping
from html import escape
from importlib.metadata import version
from math import isnan
from pathlib import Path

from callbacks.run_record import git_revision
from data_modules.corpus_index import open_corpora
from experiments.demo.answers import ShownFuture, ShownQuestion, ShownVideo, read_answers
from experiments.demo.parts import PartRecord, read_records
from experiments.demo.results import (
    FULL,
    NAMES,
    NEXT_EVENT,
    DemoResults,
    summary,
)
from experiments.experiment_config import ExperimentConfig
from experiments.fit.metrics_log import read_metrics
from vidreason.cores import available_cores
from vidreason.evaluation.items import EVERYTHING, Column
from vidreason.evaluation.page.charts import Bar, grouped_bars, line_chart
from vidreason.evaluation.page.elements import table_element, write_page
from vidreason.evaluation.page.pictures import StoredPictures, key_frames
from vidreason.evaluation.page.report_page import EvaluationReport, write_report_page
from vidreason.evaluation.tables import CHANCE, Table, none_for_nan
from vidreason.store.visual_token_source import VisualTokenSource

REPORT_FILE = "report.html"
QUESTIONS_FILE = "questions.html"
"""The page of all questions, which the report links to."""
_STYLE = Path(__file__).with_name("report.css")
_PACKAGES = ("vidreason", "torch", "lightning", "transformers", "peft", "segment-anything", "av")


def write_demo_report(
    run_dir: Path, stage1: ExperimentConfig, stage2: ExperimentConfig, results: DemoResults
) -> None:
    """Write both pages from what the demo's other parts have left in ``run_dir``."""
    videos = read_answers(run_dir)
    source = VisualTokenSource(stage2.perceiver, stage2.store)
    write_report_page(
        run_dir / QUESTIONS_FILE,
        EvaluationReport(
            title="vidreason: the demo's questions",
            runs=results.runs,
            tables=results.tables,
            scores={name: list(cells.values()) for name, cells in results.cells.items()},
        ),
        pictures=StoredPictures.of_examples(
            open_corpora(stage2.data.benchmark, stage2.data.max_malformed_fraction), source
        ),
        num_pictured=stage2.evaluation.report_items,
    )
    sections = [
        _head(results, read_records(run_dir)),
        "<h2>Accuracy</h2>",
        _bars("Accuracy over all questions", results, EVERYTHING),
        *(
            _bars("Next events named word for word", results, column)
            for column in [NEXT_EVENT]
            if column in results.cells[FULL]
        ),
        *(table_element(table, strong=FULL) for table in (*results.tables, *results.forecasts)),
        f'<p><a href="{QUESTIONS_FILE}">Every question, with its frames and what the model and the '
        "controls answered</a></p>",
        "<h2>Training</h2>",
        '<div class="charts">',
        _loss_figure("Stage 1: alignment", stage1.run_dir),
        _loss_figure("Stage 2: instruction", stage2.run_dir),
        "</div>",
        f"<h2>{len(videos)} test videos</h2>",
        '<p class="muted">Videos and questions were drawn at random before any answer was known. '
        "Frames are the key frames; coloured outlines are the masks that became object tokens.</p>",
        *(_video(video, source) for video in videos),
    ]
    write_page(run_dir / REPORT_FILE, "vidreason: demo report", sections, style=_STYLE.read_text())


def _head(results: DemoResults, records: Mapping[str, PartRecord]) -> str:
    every = results.cells[FULL][EVERYTHING]
    accuracy, low, high = every.score
    interval = "" if isnan(low) else f" (95% interval {low:.1%} to {high:.1%})"
    seconds = {
        title: (record.seconds, record.cpu_seconds)
        for title, record in records.items()
        # Of an interrupted part, the time so far says nothing.
        if record.complete
    }
    seconds["all"] = (sum(a for a, _ in seconds.values()), sum(b for _, b in seconds.values()))
    rows = [(title, *(f"{value:.0f}" for value in values)) for title, values in seconds.items()]
    return "\n".join(
        [
            "<h1>Why it happened, and what happens next</h1>",
            "<p>A video encoder and a segmenter look at short videos of a small world; a fusion "
            "core turns what they see into embeddings for a language model. Here it was trained on "
            "this machine and asked about videos that it had never seen: it answered "
            f"<strong>{accuracy:.1%}</strong>{escape(interval)} of {every.num_items} questions "
            f"about {every.num_videos} videos rightly.</p>",
            *(f"<p>{escape(text[0].upper() + text[1:])}.</p>" for text in summary(results)),
            f'<p class="muted">{escape(_machine())}</p>',
            table_element(Table("", ("part", "seconds", "CPU seconds"), tuple(rows)), strong="all"),
        ]
    )


def _machine() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    revision = git_revision(Path(__file__).parents[2])
    commit = f", commit {revision}" if revision else ""
    return (
        f"{available_cores()} CPU cores, {platform.system()} {platform.machine()}, Python "
        f"{platform.python_version()}, {versions}{commit}."
    )


def _bars(title: str, results: DemoResults, column: Column) -> str:
    label = NAMES[column]
    # A group of one column; bars are the rows of the tables.
    bars: dict[str, dict[str, Bar]] = {
        name: {label: tuple(map(none_for_nan, cells[column].score))}  # type: ignore[dict-item]
        for name, cells in results.cells.items()
        if column in cells  # the references predict only
    }
    if column in results.chances:
        bars[CHANCE] = {label: (results.chances[column], None, None)}
    chart = grouped_bars(title, bars, [label])
    return (
        f'<h3>{escape(title)}</h3><figure class="wide">{chart}<figcaption>With 95% intervals of a '
        "bootstrap over videos.</figcaption></figure>"
    )


def _loss_figure(title: str, run_dir: str) -> str:
    metrics = read_metrics(run_dir)
    series = [
        # Training and validation are logged at steps of their own.
        (name, [(float(step), row[key]) for step, row in metrics.items() if key in row])
        for name, key in (("training", "train/loss"), ("validation", "val/loss"))
    ]
    return (
        f"<figure>{line_chart(f'{title}, loss per target token', series, 'optimizer step')}"
        f"<figcaption>{escape(title)}: loss per target token.</figcaption></figure>"
    )


def _video(video: ShownVideo, source: VisualTokenSource) -> str:
    tokens = source(video.media, None, None)
    # Pictures are part of the file, so that it needs no other.
    frames = "".join(
        f'<figure><img src="{frame.data_uri}" alt="Frame at {frame.seconds:.1f} seconds with '
        f'{frame.num_objects} object masks"><figcaption>{frame.seconds:.1f} s</figcaption></figure>'
        for frame in key_frames((video.media, None, None), tokens, source.config.sampling)
    )
    futures = "".join(map(_future, video.futures))
    after = "".join(f"<li>{escape(event)}</li>" for event in video.events_after)
    return "\n".join(
        [
            f"<article><h3>Video {escape(video.video_id)}</h3>",
            f'<div class="frames">{frames}</div>',
            f'<div class="columns">{"".join(map(_question, video.questions))}</div>',
            '<div class="columns">',
            _steps("Explanation", video.explanation),
            _steps("Reference explanation", video.reference_explanation),
            f"<section><h4>What happens next: predicted</h4>{futures}</section>",
            f"<section><h4>What really happened next</h4><ol>{after}</ol></section>",
            "</div></article>",
        ]
    )


def _steps(title: str, text: str) -> str:
    return f'<section><h4>{title}</h4><p class="steps">{escape(text)}</p></section>'


def _question(shown: ShownQuestion) -> str:
    options = "".join(
        f"<li{' class=reference' if option == shown.reference else ''}>{escape(option)}</li>"
        for option in shown.options
    )
    options = f'<ul class="options">{options}</ul>' if options else ""
    return (
        f"<section><h4>Question</h4><p>{escape(shown.question)}?</p>{options}<dl>"
        f"<dt>answer</dt><dd>{escape(shown.answer)} {_mark(shown.correct)}</dd>"
        f"<dt>reference</dt><dd>{escape(shown.reference)}</dd>"
        f"<dt>without video</dt><dd>{escape(shown.blind_answer)} {_mark(shown.blind_correct)}</dd>"
        "</dl></section>"
    )


def _future(future: ShownFuture) -> str:
    return (
        f'<div class="future"><div>{escape(future.event)} '
        f"{_mark(future.happened, ('it did', 'it did not'))}</div>"
        f'<div class="meter" role="img" aria-label="probability {future.probability:.0%}">'
        f'<span style="width:{future.probability:.0%}"></span></div>'
        f'<div class="muted">{future.probability:.0%}: {escape(future.justification)}</div></div>'
    )


def _mark(right: bool, words: tuple[str, str] = ("right", "wrong")) -> str:
    kind, sign = ("right", "&#10003;") if right else ("wrong", "&#10007;")
    return f'<span class="{kind}">{sign} {words[not right]}</span>'
