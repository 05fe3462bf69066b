"""Predictions in, every table and number out: the one place where the metrics are put together.

Nothing here asks a model or reads a video, so that all numbers can be had again from the files of
predictions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from vidreason.evaluation.added_protocols import corpus_protocols
from vidreason.evaluation.answerer import Capability
from vidreason.evaluation.cells import Cell, run_cells, run_differences
from vidreason.evaluation.confidence.run_calibration import Calibration, run_calibrations
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.failed_programs import program_failure_tables, program_failures
from vidreason.evaluation.free_texts import free_text_scores, free_text_tables
from vidreason.evaluation.items import Column, Items, chance_scores, run_items
from vidreason.evaluation.next_events.scores import NextEventScores, next_event_scores
from vidreason.evaluation.predictions.rows import (
    BenchmarkPrediction,
    has_finite_scores,
    has_twins,
    right_options,
)
from vidreason.evaluation.protocols import ALL, STEP_ORDER, Protocol, wups_protocol
from vidreason.evaluation.statistics.few_clusters import MIN_CLUSTERS
from vidreason.evaluation.tables import (
    NOT_APPLICABLE,
    Table,
    accuracy_table,
    difference_rows,
    difference_table,
    record_row,
    score_rows,
    value_text,
)
from vidreason.evaluation.text.bertscore import BertScorer, load_bert_scorer
from vidreason.evaluation.text.wordnet import WordNet
from vidreason.evaluation.text.wups import Wups
from vidreason.evaluation.token_counts import token_counts, token_tables
from vidreason.markdown import escaped, one_line

Runs = Mapping[str, Sequence[BenchmarkPrediction]]
_WUPS_CORPUS = "nextqa_open_ended"  # the one corpus whose score needs files
_MAX_NAMED = 10  # ids in a note
_CAPABILITIES = ("", *get_args(Capability))
"""Entries of rows: a question that was asked, or that the system cannot be asked."""


@dataclass(frozen=True, kw_only=True)
class Scoreboard:
    """All scores of some runs on the same questions."""

    tables: tuple[Table, ...]
    scores: dict[str, list[Cell]]
    """Cells of each run: the section ``runs`` of the metrics."""
    metrics: dict[str, Any]
    """Sections ``runs``, ``differences``, ``calibration``, ``next_events``, ``texts``,
    ``incomplete`` and ``notes``, and ``tokens`` and ``programs`` where runs have any; values are
    such as JSON holds, None where a number is not defined."""

    def to_text(self) -> str:
        """All tables and notes for a terminal."""
        notes = map(one_line, self.metrics["notes"])
        return "\n\n".join([*(table.to_text() for table in self.tables), *notes])

    def to_markdown(self) -> str:
        """All tables and notes as Markdown."""
        tables = (table.to_markdown() for table in self.tables)
        return "\n\n".join([*tables, *map(escaped, self.metrics["notes"])])


def scoring_protocols(config: EvaluationConfig) -> Mapping[str, Protocol]:
    """Protocols of all corpora: NExT-QA's open-ended questions by WUPS if there is a WordNet.

    Raises:
        ValueError: There is no such WordNet, or no such file of stop words; or as
            :func:`vidreason.evaluation.added_protocols.corpus_protocols`.
    """
    protocols = corpus_protocols(config)
    if not config.wordnet:
        return protocols
    # The benchmark leaves its stop words out.
    stop_words: frozenset[str] = frozenset()
    if config.stop_words:
        if not Path(config.stop_words).is_file():
            raise ValueError(f"evaluation.stop_words: no file {config.stop_words!r}")
        stop_words = frozenset(Path(config.stop_words).read_text(encoding="utf-8").split())
    wups = wups_protocol(Wups(WordNet(config.wordnet)), stop_words)
    return {**protocols, _WUPS_CORPUS: wups}


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
    evidence: Sequence[str] = (),
    validation: Sequence[BenchmarkPrediction] = (),
    incomplete: Mapping[str, str] | None = None,
) -> Scoreboard:
    """Score runs, compare them with one of them, and look at their confidences.

    Args:
        runs: Name -> predictions. Whole corpora may be missing in a run, but no single questions.
        config: What needs files that not everybody has.
        full: The run that the others are compared with; where there is no such run, none is.
        evidence: Names of runs that see less and less, from the full one on.
        validation: Its predictions on other questions, to fit temperatures and conformal sets on.
        incomplete: Corpora of which questions could not be read, and how many were.

    Raises:
        ValueError: Runs answer different questions, or a file of ``config`` is missing.
    """
    protocols = scoring_protocols(config)
    incomplete = incomplete or {}
    bert_scorer = _bert_scorer(config)
    tables: list[Table] = []
    # Rows to items to cells: all numbers of accuracy come from here.
    items = run_items(runs, protocols)
    cells = {name: run_cells(of_run) for name, of_run in items.items()}
    differences: list[dict[str, Any]] = []
    for title, columns in _sections(items, protocols):
        corpus = columns[0][0]
        # Runs may lack whole corpora: this one's table has those that have it.
        names = [name for name, of_run in items.items() if columns[0] in of_run]
        if not any(column in cells[name] for name in names for column in columns):
            continue  # no run can answer it
        rows = [row for row in runs[names[0]] if row.corpus == corpus]
        tables.append(
            accuracy_table(
                corpus,
                {name: cells[name] for name in names},
                columns,
                chances=chance_scores(rows, protocols),
                incomplete=incomplete.get(corpus, ""),
                names={(corpus, ALL): title},
            )
        )
        # The full model minus each other run, on the first column, such as all questions.
        compared = run_differences({name: items[name] for name in names}, columns[0], full)
        if compared:
            tables.append(difference_table(full, compared))
            differences += difference_rows(full, compared)
    tokens = token_counts(runs)
    tables += token_tables(tokens)
    calibrations = list(run_calibrations(runs, validation))
    tables += [table for calibration in calibrations for table in calibration.tables()]
    # Computed distributions over next events.
    next_events = next_event_scores(runs, full=full, validation=validation, evidence=evidence)
    tables += [table for of_corpus in next_events.values() for table in of_corpus.tables]
    # Free texts of all runs beside their references.
    texts = {name: free_text_scores(rows, bert_scorer) for name, rows in runs.items()}
    tables += free_text_tables(texts)
    programs = program_failures(runs)
    tables += program_failure_tables(programs)
    scores = {name: list(of_run.values()) for name, of_run in cells.items()}
    return Scoreboard(
        tables=tuple(tables),
        scores=scores,
        metrics={
            "runs": {name: score_rows(scored) for name, scored in scores.items()},
            "differences": differences,
            "calibration": {one.title: one.as_json(full) for one in calibrations},
            "next_events": {corpus: one.metrics for corpus, one in next_events.items()},
            "texts": {name: [*map(record_row, scored)] for name, scored in texts.items() if scored},
            **{name: of for name, of in (("tokens", tokens), ("programs", programs)) if of},
            "incomplete": dict(incomplete),
            "notes": _notes(runs, items, config, incomplete) + _unfitted(calibrations, next_events),
        },
    )


def _sections(
    items: Mapping[str, Items], protocols: Mapping[str, Protocol]
) -> Iterator[tuple[str, list[Column]]]:
    """The tables of scores, by title and columns: of each corpus, then of its free answers."""
    # Runs that have a corpus have the same columns of it.
    columns = dict.fromkeys(column for of_run in items.values() for column in of_run)
    for corpus in dict.fromkeys(corpus for corpus, _ in columns):
        of_texts = protocols.get(corpus, Protocol()).text_columns()
        texts = {(corpus, name) for names in of_texts.values() for name in names}
        parts = {corpus: [c for c in columns if c[0] == corpus and c not in texts]}
        for question_type, names in of_texts.items():
            title = f"{corpus} {question_type}"
            parts[title] = [(corpus, name) for name in names if (corpus, name) in columns]
        yield from ((title, part) for title, part in parts.items() if part)


def _has(rows: Sequence[BenchmarkPrediction], corpus: str) -> bool:
    return any(row.corpus == corpus for row in rows)


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


def _notes(
    runs: Runs,
    items: Mapping[str, Items],
    config: EvaluationConfig,
    incomplete: Mapping[str, str],
) -> list[str]:
    """Sentences that a reader of these numbers needs."""
    notes = [*_not_applicable(runs), *_without_answer(runs), *_not_finite(runs)]
    notes += _twin_options(runs)
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
    notes += [*_few_videos(runs), *_step_orders(items)]
    return [*notes, *map(_incomplete_note, incomplete.items())]


def _not_applicable(runs: Runs) -> list[str]:
    """Runs that could not be made at all, with the reason that their rows give."""
    names: dict[str, list[str]] = {}
    for name, rows in runs.items():
        # Entries that are no capability are reasons.
        for reason in {row.missing_capability for row in rows}.difference(_CAPABILITIES):
            names.setdefault(reason, []).append(name)
    return [f"{', '.join(of)}: {NOT_APPLICABLE}, because {why}" for why, of in names.items()]


def _without_answer(runs: Runs) -> list[str]:
    """Questions whose files have no answer: nothing can be scored of them."""
    rows = {row.id: row for of_run in runs.values() for row in of_run}
    numbers: dict[str, list[int]] = {}
    for row in rows.values():
        counted = numbers.setdefault(row.corpus, [0, 0])
        counted[0] += row.reference is None and not row.reference_texts
        counted[1] += 1
    return [
        f"{corpus}: {without} of {number} questions have no answer in their file, and are not "
        "scored: it may be hidden, or stand in a column that is not named"
        for corpus, (without, number) in numbers.items()
        if without
    ]


def _unfitted(
    calibrations: Sequence[Calibration], next_events: Mapping[str, NextEventScores]
) -> list[str]:
    """Temperatures and sets of events for which there were too few validation answers."""
    notes = [note for one in calibrations for note in one.notes]
    return notes + [note for one in next_events.values() for note in one.notes]


def _few_videos(runs: Runs) -> list[str]:
    """Corpora of too few videos for a bootstrap."""
    videos: dict[str, set[str]] = {}
    for rows in runs.values():
        for row in rows:
            videos.setdefault(row.corpus, set()).add(row.video_id)
    few = {corpus: len(ids) for corpus, ids in videos.items() if len(ids) < MIN_CLUSTERS}
    return [
        f"{corpus}: of one video there is no interval, and p is 1 whatever the runs answer"
        if number == 1
        else f"{corpus}: of {number} videos, fewer than {MIN_CLUSTERS}, the intervals are Wilson's "
        "with Student's t over videos, or of a jackknife; a bootstrap would be too narrow"
        for corpus, number in few.items()
    ]


def _step_orders(items: Mapping[str, Items]) -> list[str]:
    """The order of steps among the answers that have one, where some have none."""
    # By corpus: for each run, the values of its answers, None where there is no order.
    values: dict[str, dict[str, list[float | None]]] = {}
    for name, of_run in items.items():
        for (corpus, group), of_column in of_run.items():
            if group == STEP_ORDER and of_column:
                values.setdefault(corpus, {})[name] = [item.value for item in of_column]
    notes = []
    for corpus, by_run in values.items():
        known = {name: [v for v in of_run if v is not None] for name, of_run in by_run.items()}
        if any(len(known[name]) < len(of_run) for name, of_run in by_run.items()):
            shown = ", ".join(
                f"{name} {value_text(fmean(of_run)) if of_run else NOT_APPLICABLE} "
                f"(n={len(of_run)})"
                for name, of_run in known.items()
            )
            notes.append(
                f"{corpus}: an answer with fewer than two of the reference's steps has no order, "
                f"and counts 0 in {STEP_ORDER}; of the others it is {shown}"
            )
    return notes


def _not_finite(runs: Runs) -> list[str]:
    """Questions whose options have likelihoods that are no numbers: a model went wrong there."""
    broken = {
        name: [row.id for row in rows if row.option_log_likelihoods and not has_finite_scores(row)]
        for name, rows in runs.items()
    }
    return [
        f"{name}: {len(ids)} questions have likelihoods that are not finite, and count as "
        f"invalid: {_some(ids)}"
        for name, ids in broken.items()
        if ids
    ]


def _twin_options(runs: Runs) -> list[str]:
    """Questions that offer one text twice."""
    rows = {row.id: row for of_run in runs.values() for row in of_run if row.options}
    # Options come from the benchmark, so one run's rows stand for all.
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
