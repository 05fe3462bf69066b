"""Answers to the benchmarks under each control, written down as they are given."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import Corpora, open_corpora
from data_modules.official_counts import incomplete_corpora
from experiments.evaluate.contenders import Contender, contenders
from experiments.evaluate.ranks import Ranks, started_ranks
from experiments.evaluate.report import write_report
from experiments.experiment_config import ExperimentConfig
from experiments.kept_runs import (
    NO_REASONER,
    PRIORS,
    ROW_NAMES,
    VALIDATION,
    Prior,
    evaluation_folder,
    predictions_file,
)
from experiments.start_checks.checks import check_start
from experiments.trained_model import (
    reasoner_folder,
    trained_model_identity,
    trained_steps,
    trained_token_source,
)
from experiments.writer_lock import sole_writer
from vidreason.evaluation.answerer import Answerer, NotApplicable
from vidreason.evaluation.benchmark import (
    answer_batches,
    evaluate_examples,
    evaluation_failures,
    question_batches,
)
from vidreason.evaluation.confidence.run_calibration import held_out
from vidreason.evaluation.config import Control
from vidreason.evaluation.controls import why_not_made
from vidreason.evaluation.manifest import Manifest
from vidreason.evaluation.next_events.forecast_calibration import (
    CALIBRATION_FILE,
    fit_forecasts,
    write_forecast_calibration,
)
from vidreason.evaluation.page.pictures import StoredPictures
from vidreason.evaluation.predictions.kept import KeptPredictions
from vidreason.evaluation.predictions.row_files import write_predictions
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.priors import (
    MajorityAnswerer,
    RandomAnswerer,
    TextPriorAnswerer,
    fit_majority,
)
from vidreason.evaluation.provenance import Provenance, make_manifest
from vidreason.example import Example, spread_examples
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT


def evaluate(config: ExperimentConfig) -> dict[str, list[BenchmarkPrediction]]:
    """Answer the benchmark under each of ``config.controls``; print the tables and write all files.

    Returns:
        The graded predictions by row of the table; of several processes, to the first only.

    Raises:
        ValueError: No benchmark is configured, there is no trained model, or the folder holds
            answers that were made otherwise, or another process writes to it.
    """
    with ExitStack() as lock:
        answers = _answers(config, lock, with_validation=True)
        if answers.runs:
            write_report(
                evaluation_folder(config),
                answers.runs,
                config.evaluation,
                model=str(reasoner_folder(config)),
                step=trained_steps(config),
                validation=answers.validation,
                manifests=answers.manifests,
                incomplete=answers.incomplete,
                pictures=question_pictures(config),
            )
            _write_calibration(config, held_out(answers.runs, answers.validation))
    return answers.runs


def _write_calibration(config: ExperimentConfig, validation: Sequence[BenchmarkPrediction]) -> None:
    """Write what a copy in the reasoner's folder calibrates its predictions by, if there is any."""
    path = evaluation_folder(config) / CALIBRATION_FILE
    # Only a reasoner answers validation questions.
    model = trained_model_identity(config).model if validation else ""
    calibration = fit_forecasts(validation, config.decoding.futures, model)
    if calibration is None:
        path.unlink(missing_ok=True)  # of other answers
    else:
        write_forecast_calibration(path, calibration)


def answer_benchmark(config: ExperimentConfig) -> dict[str, list[BenchmarkPrediction]]:
    """The part of :func:`evaluate` before the tables: answers, written down and returned."""
    with ExitStack() as lock:
        return _answers(config, lock, with_validation=False).runs


_HELD_OUT = "validation, for temperatures"


class _Answers(NamedTuple):
    """Predictions to score; nothing on all ranks but the first."""

    runs: dict[str, list[BenchmarkPrediction]]
    """By row of the table."""
    validation: list[BenchmarkPrediction]
    """To validation questions, for temperatures."""
    manifests: dict[str, Manifest]
    """By row of the table."""
    incomplete: dict[str, str]
    """Corpora of which questions could not be read, and how many were."""


class _Entry(NamedTuple):
    """One run over some questions: what answers, and where its answers are kept."""

    name: str
    """Name of the row of the table."""
    kind: str
    answerer: Answerer
    examples: Sequence[Example]
    manifest: Manifest


def _answers(config: ExperimentConfig, lock: ExitStack, *, with_validation: bool) -> _Answers:
    """Answer, write down, and put together; ``lock`` then holds that of the folder."""
    check_start(config, "evaluate")
    with started_ranks(config) as ranks:
        ranks.on_first(lambda: lock.enter_context(sole_writer(config.run_dir, "evaluate")))
        # The first reads them for all, so that every rank cuts its batches from the same list.
        examples, incomplete = ranks.on_first(lambda: _questions(config))
        if ranks.is_first:
            _say_what_is_left_out(config, examples)
        entries: list[_Entry] = []
        runs: dict[str, list[BenchmarkPrediction]] = {}
        validation: list[BenchmarkPrediction] = []
        # The full model and its controls come first in the table, then the baselines; one at a
        # time is in memory.
        for contender in contenders(config, ranks.device):
            for control in config.controls:
                one = _entry(config, contender, examples, control, incomplete)
                entries.append(one)
                runs[one.name] = _answer_entry(config, ranks, one)
            # Temperatures are fitted on validation questions, answered by the full model.
            if with_validation and contender.is_reasoner and "none" in config.controls:
                others = ranks.on_first(lambda: _validation_examples(config, examples))
                if others:
                    held_out = _entry(config, contender, others, "none", {})
                    held_out = held_out._replace(name=_HELD_OUT, kind=VALIDATION)
                    validation = _answer_entry(config, ranks, held_out)
            contender.release()
        if not ranks.is_first:
            return _Answers({}, [], {}, {})
        # The reasoner's; without one, that of the first baseline.
        provenance = entries[0].answerer.provenance
        # Priors take no time, so the first rank answers them alone, anew at every start.
        for one in _prior_entries(config, examples, incomplete, provenance):
            entries.append(one)
            runs[one.name] = evaluate_examples(one.answerer, one.examples, config.evaluation)
            path = predictions_file(config, one.kind)
            write_predictions(path, runs[one.name], one.manifest.as_json())
    manifests = {one.name: one.manifest for one in entries}
    return _Answers(runs, validation, manifests, incomplete)


def _say_what_is_left_out(config: ExperimentConfig, examples: Sequence[Example]) -> None:
    """Say which controls cannot be made of the questions, before any of the others is."""
    for control in config.controls:
        if reason := why_not_made(control, examples):
            print(f"evaluate: {ROW_NAMES[control]} will be n/a: {reason}", file=sys.stderr)


def _questions(config: ExperimentConfig) -> tuple[list[Example], dict[str, str]]:
    """The benchmark's questions; and of which corpora some could not be read, how many were."""
    corpora = _corpora(config, config.data.benchmark)
    counts = [corpus.skipped for corpus in corpora.corpora]
    return list(corpora), incomplete_corpora(config.data.benchmark, counts)


def _corpora(config: ExperimentConfig, corpora: Sequence[CorpusConfig]) -> Corpora:
    return open_corpora(corpora, config.data.max_malformed_fraction)


def _entry(
    config: ExperimentConfig,
    contender: Contender,
    examples: Sequence[Example],
    control: Control,
    incomplete: Mapping[str, str],
) -> _Entry:
    """A contender under a control; one that cannot be made of these questions is asked nothing."""
    reason = why_not_made(control, examples)
    # For an n/a row, too: its manifest has the provenance of what would have answered.
    answerer = contender.answerer(examples, "none" if reason else control)
    manifest = _manifest(
        config,
        answerer.provenance,
        examples,
        control,
        incomplete,
        scores_options=answerer.method("log_likelihoods") is not None,
    )
    if reason:
        answerer = NotApplicable(answerer.provenance, reason)
    return _Entry(contender.row(control), contender.kind(control), answerer, examples, manifest)


def _manifest(
    config: ExperimentConfig,
    provenance: Provenance,
    examples: Sequence[Example],
    control: str,
    incomplete: Mapping[str, str],
    *,
    scores_options: bool = True,
) -> Manifest:
    return make_manifest(
        examples,
        provenance,
        config.evaluation,
        config.decoding,
        control=control,
        incomplete=incomplete,
        scores_options=scores_options,
    )


def _answer_entry(
    config: ExperimentConfig, ranks: Ranks, entry: _Entry
) -> list[BenchmarkPrediction]:
    """Answer what is missing of an entry; the rows of all ranks, to the first only."""
    kept = KeptPredictions(predictions_file(config, entry.kind), entry.manifest)
    answered = ranks.on_first(kept.recover)
    # Batches are cut from all questions, whatever is missing and whoever answers: a question always
    # has the same others beside it, and so the same bits.
    missing = [
        batch
        for batch in question_batches(entry.examples, config.evaluation.batch_size)
        if any(example.id not in answered for example in batch)
    ]
    if ranks.is_first:
        done = f", {len(answered)} of them answered before" if answered else ""
        print(f"evaluate: {len(entry.examples)} questions, {entry.name}{done}", file=sys.stderr)
    of_this_rank = missing[ranks.rank :: ranks.world_size]
    if of_this_rank:
        failures = evaluation_failures(config.evaluation, len(entry.examples))
        # The share of unreadable videos is of all questions, those of earlier starts included.
        failures.count(len(answered), 0)
        rows_of_batches = answer_batches(
            entry.answerer, of_this_rank, config.evaluation, failures, progress=ranks.is_first
        )
        for rows in rows_of_batches:
            kept.append([row for row in rows if row.id not in answered])
            ranks.end_if_orphaned()
    return ranks.on_first(lambda: kept.finish([example.id for example in entry.examples]))


def question_pictures(config: ExperimentConfig) -> StoredPictures | None:
    """Source of the frames of the page's questions; None if it is to show none."""
    if not config.evaluation.report_items or config.model == NO_REASONER:
        return None
    return StoredPictures.of_examples(
        _corpora(config, config.data.benchmark), trained_token_source(config)
    )


def _validation_examples(config: ExperimentConfig, tested: Sequence[Example]) -> list[Example]:
    """Validation questions that are answered with a confidence.

    Only of corpora that the benchmark has, too, and never its own questions.
    """
    limit = config.evaluation.num_calibration_questions
    names = {corpus.corpus for corpus in config.data.benchmark}
    corpora = [corpus for corpus in config.data.validation if corpus.corpus in names]
    if not limit or not corpora:
        return []
    ids = {example.id for example in tested}
    by_likelihood = config.evaluation.multiple_choice == "likelihood"
    # Open answers come without a confidence: no temperature would change them.
    confident = [
        example
        for example in _corpora(config, corpora)
        if example.id not in ids
        and (example.prompt == FUTURE_PREDICTION_PROMPT or (by_likelihood and example.options))
    ]
    return spread_examples(confident, limit)


def _prior_entries(
    config: ExperimentConfig,
    examples: Sequence[Example],
    incomplete: Mapping[str, str],
    provenance: Provenance,
) -> Iterator[_Entry]:
    """Random choices, and answers of the training set alone to what was trained on.

    Args:
        config: The experiment's.
        examples: All questions.
        incomplete: Corpora of which questions could not be read.
        provenance: Of the reasoner, whose rows stand beside those of the priors.
    """
    train = list(_corpora(config, config.data.train))
    baseline = fit_majority(train)
    # A row has all questions of a corpus, or none of them: those with answers to learn from.
    unknown = {example.corpus for example in examples if not baseline.knows(example)}
    answerable = [example for example in examples if example.corpus not in unknown]
    with_options = {example.corpus for example in examples if example.options}
    chosen = [example for example in examples if example.corpus in with_options]
    known_choices = [example for example in chosen if example.corpus not in unknown]
    priors: tuple[tuple[Prior, Answerer, list[Example]], ...] = (
        ("majority", MajorityAnswerer(baseline), answerable),
        (
            "text-prior",
            TextPriorAnswerer(baseline),
            known_choices,
        ),
        ("random-option", RandomAnswerer(config.evaluation.seed), chosen),
    )
    for kind, answerer, questions in priors:
        if questions:
            # As the reasoner's, to stand beside it: only what answers is another.
            model = answerer.provenance.model
            prior = replace(provenance, model=model, perceiver="", system={})
            manifest = _manifest(config, prior, questions, kind, incomplete)
            yield _Entry(PRIORS[kind], kind, answerer, questions, manifest)
