"""The demo's report: one HTML file that needs no network, and beside it one of all questions."""

import platform
from collections.abc import Mapping
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from callbacks.run_record import git_revision
from data_modules.corpus_index import open_corpora
from experiments.demo.answers import ShownFuture, ShownQuestion, ShownVideo, read_answers
from experiments.demo.parts import PartRecord, read_records
from experiments.demo.results import CONTROLS, FULL, STAGE_1, read_results, result_tables
from experiments.experiment_config import ExperimentConfig
from experiments.fit.metrics_log import read_metrics
from experiments.kept_runs import ROW_NAMES, predictions_file
from vidreason.cores import available_cores
from vidreason.evaluation.cells import score_predictions
from vidreason.evaluation.page.charts import grouped_bars, line_chart
from vidreason.evaluation.page.elements import (
    table_element,
    table_row,
    write_page,
)
from vidreason.evaluation.page.pictures import StoredPictures, key_frames
from vidreason.evaluation.page.report_page import EvaluationReport, write_report_page
from vidreason.evaluation.predictions.rows import read_predictions
from vidreason.store.visual_token_source import VisualTokenSource

REPORT_FILE = "report.html"
QUESTIONS_FILE = "questions.html"
"""The page of all questions, which the report links to."""
_STYLE = Path(__file__).with_name("report.css")
_PACKAGES = ("vidreason", "torch", "lightning", "transformers", "peft", "segment-anything", "av")


def write_demo_report(run_dir: Path, stage1: ExperimentConfig, stage2: ExperimentConfig) -> None:
    """Write both pages from what the demo's other parts have left in ``run_dir``."""
    results = read_results(run_dir)
    videos = read_answers(run_dir)
    source = VisualTokenSource(stage2.perceiver, stage2.store)
    _write_questions(run_dir, stage1, stage2, source)
    sections = [
        _head(results, read_records(run_dir)),
        "<h2>Accuracy</h2>",
        _bars(results),
        *(table_element(table, strong=FULL) for table in result_tables(results)),
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


def _write_questions(
    run_dir: Path, stage1: ExperimentConfig, stage2: ExperimentConfig, source: VisualTokenSource
) -> None:
    """The page of an evaluation, with the demo's tables."""
    kept = {FULL: predictions_file(stage2, "none"), STAGE_1: predictions_file(stage1, "none")}
    kept |= {
        ROW_NAMES[control]: predictions_file(stage2, control)
        for control in CONTROLS
        if control != "none"
    }
    runs = {name: read_predictions(path) for name, path in kept.items()}
    write_report_page(
        run_dir / QUESTIONS_FILE,
        EvaluationReport(
            title="vidreason: the demo's questions",
            runs=runs,
            tables=result_tables(read_results(run_dir)),
            scores={name: score_predictions(rows) for name, rows in runs.items()},
        ),
        pictures=StoredPictures.of_examples(
            open_corpora(stage2.data.benchmark, stage2.data.max_malformed_fraction), source
        ),
        num_pictured=stage2.evaluation.report_items,
    )


def _head(results: Mapping[str, Any], records: Mapping[str, PartRecord]) -> str:
    _, accuracy, low, high = results["bars"][0]
    interval = "" if low is None else f" (95% interval {low:.1%} to {high:.1%})"
    done = [(title, record) for title, record in records.items() if record.complete]
    rows = [
        table_row([title, f"{record.seconds:.0f}", f"{record.cpu_seconds:.0f}"])
        for title, record in done
    ]
    total = sum(record.seconds for _, record in done)
    rows.append(
        table_row(["all", f"{total:.0f}", f"{sum(r.cpu_seconds for _, r in done):.0f}"], "first")
    )
    return "\n".join(
        [
            "<h1>Why it happened, and what happens next</h1>",
            "<p>A video encoder and a segmenter look at short videos of a small world; a fusion "
            "core turns what they see into embeddings for a language model. Here it was trained on "
            "this machine in two stages and asked about videos that it had never seen: it answered "
            f"<strong>{accuracy:.1%}</strong>{escape(interval)} of {results['num_questions']} "
            f"questions about {results['num_videos']} videos rightly.</p>",
            f'<p class="muted">{escape(_machine())}</p>',
            '<div class="scroll"><table><thead><tr><th scope="col">part</th>'
            '<th scope="col">seconds</th><th scope="col">CPU seconds</th></tr></thead><tbody>',
            *rows,
            "</tbody></table></div>",
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


def _bars(results: Mapping[str, Any]) -> str:
    bars = {name: {"all questions": tuple(bar)} for name, *bar in results["bars"]}
    chart = grouped_bars("Accuracy over all questions", bars, ["all questions"])
    return (
        f'<figure class="wide">{chart}'
        "<figcaption>All questions, with "
        "95% intervals of a bootstrap over videos.</figcaption></figure>"
    )


def _loss_figure(title: str, run_dir: str) -> str:
    metrics = read_metrics(run_dir)
    series = [
        (name, [(float(step), row[key]) for step, row in metrics.items() if key in row])
        for name, key in (("training", "train/loss"), ("validation", "val/loss"))
    ]
    return (
        f"<figure>{line_chart(f'{title}, loss per target token', series, 'optimizer step')}"
        f"<figcaption>{escape(title)}: loss per target token.</figcaption></figure>"
    )


def _video(video: ShownVideo, source: VisualTokenSource) -> str:
    tokens = source(video.media, None, None)
    frames = "".join(
        f'<figure><img src="{frame.data_uri}" alt="Frame at {frame.seconds:.1f} seconds with '
        f'{frame.num_objects} object masks"><figcaption>{frame.seconds:.1f} s</figcaption></figure>'
        for frame in key_frames((video.media, None, None), tokens, source.config.sampling)
    )
    futures = "".join(map(_future, video.futures))
    if video.unparsed_futures:
        futures += f'<p class="steps wrong">Not readable: {escape(video.unparsed_futures)}</p>'
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
        f'<div class="meter" role="img" aria-label="confidence {future.confidence:.0%}">'
        f'<span style="width:{future.confidence:.0%}"></span></div>'
        f'<div class="muted">{future.confidence:.0%}: {escape(future.justification)}</div></div>'
    )


def _mark(right: bool, words: tuple[str, str] = ("right", "wrong")) -> str:
    kind, sign = ("right", "&#10003;") if right else ("wrong", "&#10007;")
    return f'<span class="{kind}">{sign} {words[not right]}</span>'
