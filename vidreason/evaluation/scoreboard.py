"""Predictions in, every table and number out: the one place where the metrics are put together.

Nothing here asks a model or reads a video, so that all numbers can be had again from the files of
predictions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidreason.evaluation.benchmark import EvaluationConfig
from vidreason.evaluation.confidence.confidences import (
    Confidences,
    event_confidences,
    fit_choice_temperature,
    fit_event_temperature,
)
from vidreason.evaluation.confidence.scores import (
    ConfidenceScores,
    choice_scores,
    confidence_rows,
    confidence_table,
    event_scores,
)
from vidreason.evaluation.confidence.temperature import TemperatureFit
from vidreason.evaluation.free_texts import (
    FreeTextScores,
    free_text_rows,
    free_text_scores,
    free_text_table,
)
from vidreason.evaluation.metrics import Score, chance_scores
from vidreason.evaluation.predictions.rows import (
    BenchmarkPrediction,
    has_finite_scores,
    has_twins,
    right_options,
)
from vidreason.evaluation.protocols import (
    PROTOCOLS,
    Protocol,
    is_event,
    wups_protocol,
)
from vidreason.evaluation.report import (
    Table,
    accuracy_table,
    corpus_scores,
    difference_rows,
    difference_table,
    run_differences,
    score_rows,
)
from vidreason.evaluation.statistics.few_clusters import MIN_CLUSTERS
from vidreason.evaluation.text.bertscore import BertScorer, load_bert_scorer
from vidreason.evaluation.text.wordnet import WordNet
from vidreason.evaluation.text.wups import Wups
from vidreason.markdown import escaped, one_line
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT

Runs = Mapping[str, Sequence[BenchmarkPrediction]]
_WUPS_CORPUS = "nextqa_open_ended"
_MAX_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Scoreboard:
    """All scores of some runs on the same questions."""

    tables: tuple[Table, ...]
    scores: dict[str, list[Score]]
    """Of each run, what the section ``runs`` of the metrics says."""
    metrics: dict[str, Any]
    """Sections ``runs``, ``differences``, ``calibration``, ``texts``, ``incomplete`` and ``notes``;
    values are such as JSON holds, None where a number is not defined."""

    def to_text(self) -> str:
        """All tables and notes for a terminal."""
        notes = map(one_line, self.metrics["notes"])
        return "\n\n".join([*(table.to_text() for table in self.tables), *notes])

    def to_markdown(self) -> str:
        """All tables and notes as Markdown."""
        tables = (table.to_markdown() for table in self.tables)
        return "\n\n".join([*tables, *map(escaped, self.metrics["notes"])])


def scoring_protocols(config: EvaluationConfig) -> dict[str, Protocol]:
    """How each corpus is scored: NExT-QA's open-ended questions by WUPS if there is a WordNet.

    Raises:
        ValueError: There is no such WordNet, or no such file of stop words.
    """
    if not config.wordnet:
        return PROTOCOLS
    stop_words: frozenset[str] = frozenset()
    if config.stop_words:
        if not Path(config.stop_words).is_file():
            raise ValueError(f"evaluation.stop_words: no file {config.stop_words!r}")
        stop_words = frozenset(Path(config.stop_words).read_text(encoding="utf-8").split())
    return PROTOCOLS | {_WUPS_CORPUS: wups_protocol(Wups(WordNet(config.wordnet)), stop_words)}


def check_scoring_files(config: EvaluationConfig) -> None:
    """Find out before hours of answering whether the files that scores need are there.

    Raises:
        ValueError: One is not.
    """
    scoring_protocols(config)
    if config.bertscore_model and not Path(config.bertscore_model).is_dir():
        raise ValueError(
            f"evaluation.bertscore_model: there is no folder {config.bertscore_model!r} with an "
            "encoder; download one first, such as roberta-large"
        )


def score_runs(
    runs: Runs,
    config: EvaluationConfig,
    *,
    full: str,
    validation: Sequence[BenchmarkPrediction] = (),
    incomplete: Mapping[str, str] | None = None,
) -> Scoreboard:
    """Score runs, compare them with one of them, and look at that one's confidences.

    Args:
        runs: Name -> predictions. A run may lack whole corpora, but not single questions.
        config: What needs files that not everybody has.
        full: The run that the others are compared with; where there is no such run, none is.
        validation: Its predictions on other questions, which temperatures are fitted on.
        incomplete: Corpora of which questions could not be read, and how many were.

    Raises:
        ValueError: Runs answer different questions, or a file of ``config`` is missing.
    """
    protocols = scoring_protocols(config)
    incomplete = incomplete or {}
    bert_scorer = _bert_scorer(config)
    tables: list[Table] = []
    scores: dict[str, list[Score]] = {name: [] for name in runs}
    differences: list[dict[str, Any]] = []
    for corpus in _scored_corpora(runs):
        own = {name: rows for name, rows in runs.items() if _has(rows, corpus)}
        found_scores = corpus_scores(own, corpus, protocols)
        for name, of_run in found_scores.items():
            scores[name] += of_run
        chances = chance_scores(_of_corpus(next(iter(own.values())), corpus), protocols)
        tables.append(accuracy_table(found_scores, chances.get(corpus), incomplete.get(corpus, "")))
        if full in own and len(own) > 1:
            found = run_differences(own, corpus, full, protocols)
            tables.append(difference_table(corpus, full, found))
            differences += difference_rows(full, found)
    calibration = list(_calibration(runs.get(full, ()), validation))
    for title, by_name, fit in calibration:
        tables.append(confidence_table(title, by_name, fit))
    texts = {name: free_text_scores(rows, bert_scorer) for name, rows in runs.items()}
    tables += _free_text_tables(texts)
    return Scoreboard(
        tables=tuple(tables),
        scores=scores,
        metrics={
            "runs": {name: score_rows(own) for name, own in scores.items()},
            "differences": differences,
            "calibration": {
                title: confidence_rows(by_name, fit) for title, by_name, fit in calibration
            },
            "texts": {name: free_text_rows(scores) for name, scores in texts.items() if scores},
            "incomplete": dict(incomplete),
            "notes": _notes(runs, config) + list(map(_incomplete_note, incomplete.items())),
        },
    )


def _scored_corpora(runs: Runs) -> list[str]:
    rows = (row for rows in runs.values() for row in rows)
    return list(dict.fromkeys(row.corpus for row in rows if row.reference is not None))


def _has(rows: Sequence[BenchmarkPrediction], corpus: str) -> bool:
    return any(row.corpus == corpus for row in rows)


def _of_corpus(rows: Sequence[BenchmarkPrediction], corpus: str) -> list[BenchmarkPrediction]:
    return [row for row in rows if row.corpus == corpus]


def _calibration(
    rows: Sequence[BenchmarkPrediction], validation: Sequence[BenchmarkPrediction]
) -> Iterator[tuple[str, dict[str, ConfidenceScores], TemperatureFit | None]]:
    """Of each corpus' choices and predicted events: title, scores by name, and the temperature."""
    tested = {row.id for row in rows}
    others = [row for row in validation if row.id not in tested]
    for corpus in dict.fromkeys(row.corpus for row in rows):
        own, fitted_on = _of_corpus(rows, corpus), _of_corpus(others, corpus)
        yield from _choices(corpus, own, fitted_on)
        yield from _events(corpus, own, fitted_on)


def _choices(
    corpus: str, rows: Sequence[BenchmarkPrediction], validation: Sequence[BenchmarkPrediction]
) -> Iterator[tuple[str, dict[str, ConfidenceScores], TemperatureFit | None]]:
    scores = choice_scores(rows)
    if scores is None:
        return
    by_name, fit = {"as it is": scores}, None
    if choice_scores(validation) is not None:
        fit = fit_choice_temperature(validation)
        scaled = choice_scores(rows, fit.temperature)
        assert scaled is not None
        by_name["at the fitted temperature"] = scaled
    yield f"{corpus}: confidence of choices", by_name, fit


def _events(
    corpus: str, rows: Sequence[BenchmarkPrediction], validation: Sequence[BenchmarkPrediction]
) -> Iterator[tuple[str, dict[str, ConfidenceScores], TemperatureFit | None]]:
    confidences = _printed(rows)
    scores = event_scores(confidences)
    if scores is None:
        return
    by_name, fit = {"as it is": scores}, None
    others = _printed(validation)
    if others.values:
        fit = fit_event_temperature(others)
        scaled = event_scores(confidences.scaled(fit.temperature))
        assert scaled is not None
        by_name["at the fitted temperature"] = scaled
    yield f"{corpus}: printed confidence of predicted events", by_name, fit


def _printed(rows: Sequence[BenchmarkPrediction]) -> Confidences:
    return event_confidences(
        [row for row in rows if row.prompt == FUTURE_PREDICTION_PROMPT], is_event
    )


def _free_text_tables(texts: Mapping[str, Sequence[FreeTextScores]]) -> list[Table]:
    """A table for each corpus and type of question."""
    by_kind: dict[tuple[str, str], dict[str, FreeTextScores]] = {}
    for name, scores in texts.items():
        for own in scores:
            by_kind.setdefault((own.corpus, own.question_type), {})[name] = own
    return [free_text_table(by_name) for by_name in by_kind.values()]


def _bert_scorer(config: EvaluationConfig) -> BertScorer | None:
    if not config.bertscore_model:
        return None
    return load_bert_scorer(config.bertscore_model, layer=config.bertscore_layer)


def _incomplete_note(item: tuple[str, str]) -> str:
    corpus, read = item
    return (
        f"{corpus}: {read} are scored; the others could not be read (data check names them), so "
        "these numbers are not comparable with those of whole benchmarks"
    )


def _notes(runs: Runs, config: EvaluationConfig) -> list[str]:
    """Sentences that a reader of these numbers needs."""
    notes = [*_not_finite(runs), *_twin_options(runs)]
    if any(_has(rows, _WUPS_CORPUS) for rows in runs.values()):
        if not config.wordnet:
            notes.append(
                f"{_WUPS_CORPUS} is scored by exact match, because evaluation.wordnet is "
                "not set; its published numbers are WUPS"
            )
        elif not config.stop_words:
            notes.append(
                f"{_WUPS_CORPUS} is scored without the benchmark's stop words "
                "(evaluation.stop_words); its published numbers leave them out"
            )
    return [*notes, *_few_videos(runs)]


def _few_videos(runs: Runs) -> list[str]:
    """Corpora of too few videos for a bootstrap."""
    videos: dict[str, set[str]] = {}
    for rows in runs.values():
        for row in rows:
            videos.setdefault(row.corpus, set()).add(row.video_id)
    few = {corpus: len(own) for corpus, own in videos.items() if len(own) < MIN_CLUSTERS}
    return [
        f"{corpus}: of one video there is no interval"
        if number == 1
        else f"{corpus}: of {number} videos, fewer than {MIN_CLUSTERS}, the intervals are Wilson's "
        "with Student's t over videos, or of a jackknife; a bootstrap would be too narrow"
        for corpus, number in few.items()
    ]


def _not_finite(runs: Runs) -> list[str]:
    """Questions whose options have likelihoods that are no numbers: a model went wrong there."""
    found = {
        name: [row.id for row in rows if row.option_log_likelihoods and not has_finite_scores(row)]
        for name, rows in runs.items()
    }
    return [
        f"{name}: {len(ids)} questions have likelihoods that are not finite, and count as "
        f"invalid: {_some(ids)}"
        for name, ids in found.items()
        if ids
    ]


def _twin_options(runs: Runs) -> list[str]:
    """Questions that offer one text twice."""
    rows = {row.id: row for own in runs.values() for row in own if row.options}
    twins: dict[str, list[str]] = {}
    for row in rows.values():
        if has_twins(row):
            twins.setdefault(row.corpus, []).append(row.id)
    return [
        f"{corpus}: {len(ids)} questions offer the same text twice ({_some(ids)}), of which "
        f"{sum(len(right_options(rows[one])) > 1 for one in ids)} as the right answer: either "
        "option counts as right there"
        for corpus, ids in twins.items()
    ]


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:_MAX_NAMED])
    return shown if len(ids) <= _MAX_NAMED else f"{shown} and {len(ids) - _MAX_NAMED} more"
