"""Answers to the benchmarks under each control, written down as they are given."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Literal, NamedTuple

from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import Corpora, open_corpora
from data_modules.official_counts import incomplete_corpora
from experiments.evaluate.ranks import Ranks, started_ranks
from experiments.evaluate.report import write_report
from experiments.experiment_config import ExperimentConfig
from experiments.kept_runs import (
    PRIORS,
    ROW_NAMES,
    VALIDATION,
    Prior,
    evaluation_folder,
    predictions_file,
)
from experiments.start_checks.checks import check_start
from experiments.trained_model import (
    load_trained_model,
    reasoner_folder,
    trained_model_identity,
    trained_token_source,
)
from experiments.writer_lock import sole_writer
from vidreason.evaluation.benchmark import (
    EvaluationConfig,
    answer_batches,
    question_batches,
    spread_examples,
)
from vidreason.evaluation.controls import Control, controlled_source
from vidreason.evaluation.manifest import Manifest, make_manifest
from vidreason.evaluation.page.pictures import StoredPictures
from vidreason.evaluation.predictions.kept import KeptPredictions
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, write_predictions
from vidreason.evaluation.priors import (
    fit_majority,
    majority_predictions,
    text_prior_predictions,
)
from vidreason.example import Example
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import TokenSource
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT
from vidreason.video.failures import FailureLog


def evaluate(config: ExperimentConfig) -> dict[str, list[BenchmarkPrediction]]:
    """Answer the benchmark under each of ``config.controls``; print the tables and write all files.

    Returns:
        The judged predictions by row of the table; of several processes, to the first only.

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
                validation=answers.validation,
                manifests=answers.manifests,
                incomplete=answers.incomplete,
                pictures=question_pictures(config),
            )
    return answers.runs


def answer_benchmark(config: ExperimentConfig) -> dict[str, list[BenchmarkPrediction]]:
    """The part of :func:`evaluate` before the tables: answers, written down and returned."""
    with ExitStack() as lock:
        return _answers(config, lock, with_validation=False).runs


class _Answers(NamedTuple):
    """What there is to score; nothing on all ranks but the first."""

    runs: dict[str, list[BenchmarkPrediction]]
    """By row of the table."""
    validation: list[BenchmarkPrediction]
    """To validation questions, for temperatures."""
    manifests: dict[str, Manifest]
    """By row of the table."""
    incomplete: dict[str, str]
    """Corpora of which questions could not be read, and how many were."""


def _answers(config: ExperimentConfig, lock: ExitStack, *, with_validation: bool) -> _Answers:
    """Answer, write down, and put together; ``lock`` then holds that of the folder."""
    check_start(config, "evaluate")
    runs: dict[str, list[BenchmarkPrediction]] = {}
    validation: list[BenchmarkPrediction] = []
    with started_ranks(config) as ranks:
        ranks.on_first(lambda: lock.enter_context(sole_writer(config.run_dir, "evaluate")))
        examples, incomplete = ranks.on_first(lambda: _questions(config))
        identity = trained_model_identity(config)
        # Loaded when the first question is asked: there may be none left.
        load = functools.cache(lambda: load_trained_model(config, ranks.device))
        manifests = {
            control: make_manifest(
                examples, identity, _evaluation(config, control), config.decoding, incomplete
            )
            for control in config.controls
        }
        for control, manifest in manifests.items():
            runs[ROW_NAMES[control]] = _answer(config, ranks, load, examples, control, manifest)
        if with_validation and "none" in config.controls:
            others = ranks.on_first(lambda: _validation_examples(config, examples))
            if others:
                manifest = make_manifest(
                    others, identity, _evaluation(config, "none"), config.decoding
                )
                validation = _answer(config, ranks, load, others, VALIDATION, manifest)
        if not ranks.is_first:
            return _Answers({}, [], {}, {})
        by_row = {ROW_NAMES[control]: manifest for control, manifest in manifests.items()}
        for prior, rows in _priors(config, examples).items():
            runs[PRIORS[prior]] = rows
            manifest = _prior_manifest(next(iter(manifests.values())), prior, rows)
            by_row[PRIORS[prior]] = manifest
            write_predictions(predictions_file(config, prior), rows, manifest.as_json())
    return _Answers(runs, validation, by_row, incomplete)


def _questions(config: ExperimentConfig) -> tuple[list[Example], dict[str, str]]:
    """The benchmark's questions; and of which corpora some could not be read, how many were."""
    corpora = _corpora(config, config.data.benchmark)
    counts = [corpus.skipped for corpus in corpora.corpora]
    return list(corpora), incomplete_corpora(config.data.benchmark, counts)


def _corpora(config: ExperimentConfig, corpora: Sequence[CorpusConfig]) -> Corpora:
    return open_corpora(corpora, config.data.max_malformed_fraction)


def _evaluation(config: ExperimentConfig, control: Control) -> EvaluationConfig:
    return replace(config.evaluation, control=control)


def _answer(
    config: ExperimentConfig,
    ranks: Ranks,
    load: Callable[[], tuple[VideoReasoner, TokenSource]],
    examples: Sequence[Example],
    kind: Control | Literal["validation"],
    manifest: Manifest,
) -> list[BenchmarkPrediction]:
    """Answer what is missing under one control; the rows of all ranks, to the first only."""
    kept = KeptPredictions(predictions_file(config, kind), manifest)
    control: Control = "none" if kind == VALIDATION else kind
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
        name = "validation, for temperatures" if kind == VALIDATION else ROW_NAMES[control]
        print(f"evaluate: {len(examples)} questions, {name}{done}", file=sys.stderr)
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


def question_pictures(config: ExperimentConfig) -> StoredPictures | None:
    """Where the page gets the frames of questions from; None if it is to show none."""
    if not config.evaluation.report_items:
        return None
    return StoredPictures.of_examples(
        _corpora(config, config.data.benchmark), trained_token_source(config)
    )


def _validation_examples(config: ExperimentConfig, asked: Sequence[Example]) -> list[Example]:
    """Validation questions that are answered with a confidence.

    Only of corpora that the benchmark has, too, and never its own questions.
    """
    limit = config.evaluation.num_calibration_questions
    readers = {corpus.reader for corpus in config.data.benchmark}
    corpora = [corpus for corpus in config.data.validation if corpus.reader in readers]
    if not limit or not corpora:
        return []
    ids = {example.id for example in asked}
    by_likelihood = config.evaluation.multiple_choice == "likelihood"
    confident = [
        example
        for example in _corpora(config, corpora)
        if example.id not in ids
        and (example.prompt == FUTURE_PREDICTION_PROMPT or (by_likelihood and example.options))
    ]
    return spread_examples(confident, limit)


def _priors(
    config: ExperimentConfig, examples: Sequence[Example]
) -> dict[Prior, list[BenchmarkPrediction]]:
    """What training answers alone give, for the benchmark corpora that were trained on."""
    train = list(_corpora(config, config.data.train))
    known = {example.corpus for example in train if example.answers or example.options}
    own = [example for example in examples if example.corpus in known]
    with_options = {example.corpus for example in own if example.options}
    baseline = fit_majority(train)
    rows: dict[Prior, list[BenchmarkPrediction]] = {
        "majority": majority_predictions(baseline, own),
        "text-prior": text_prior_predictions(
            baseline, [example for example in own if example.corpus in with_options]
        ),
    }
    return {prior: predictions for prior, predictions in rows.items() if predictions}


def _prior_manifest(
    manifest: Manifest, prior: Prior, rows: Sequence[BenchmarkPrediction]
) -> Manifest:
    """That of a run over the same questions, as far as the training answers say anything there."""
    known = {row.corpus for row in rows}

    def own(hashes: Mapping[str, str]) -> dict[str, str]:
        return {corpus: value for corpus, value in hashes.items() if corpus in known}

    return replace(
        manifest,
        questions=own(manifest.questions),
        incomplete=own(manifest.incomplete),
        prompts=own(manifest.prompts),
        model=PRIORS[prior],
        perceiver="",
        control=prior,
        seed=0,
    )
