"""Asking benchmark questions of what answers them: questions in, one graded prediction each out."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tqdm import tqdm  # type: ignore[import-untyped]

from vidreason.evaluation.answerer import Answerer, Reply, needed_capability
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.predictions.rows import (
    BenchmarkPrediction,
    align_predictions,
    checked_futures,
    grade,
    unanswered,
)
from vidreason.example import Example, MediaSpan
from vidreason.video.failures import FailureLog


def evaluate_examples(
    answerer: Answerer,
    examples: Sequence[Example],
    config: EvaluationConfig,
) -> list[BenchmarkPrediction]:
    """Ask ``examples`` one batch after the other, in this process.

    Args:
        answerer: What answers.
        examples: Multiple-choice and open-ended questions, mixed at will.
        config: How to ask; its control is the answerer's business.

    Returns:
        One graded prediction an example, in the order of ``examples``.

    Raises:
        UnreadableVideosError: More videos were unreadable than the configuration allows.
        ValueError: Two examples have one id.
    """
    batches = question_batches(examples, config.batch_size)
    # In one process, the log is in memory alone.
    failures = evaluation_failures(config, len(examples))
    answered = answer_batches(answerer, batches, config, failures)
    predictions = [prediction for rows in answered for prediction in rows]
    return align_predictions(predictions, [example.id for example in examples])


def evaluation_failures(config: EvaluationConfig, num_questions: int) -> FailureLog:
    """Return a log in memory of the questions without a video, with the budget of ``config``."""
    return FailureLog(
        None,
        config.max_unreadable_fraction,
        num_questions,
        setting="evaluation.max_unreadable_fraction",
    )


def answer_batches(
    answerer: Answerer,
    batches: Sequence[Sequence[Example]],
    config: EvaluationConfig,
    failures: FailureLog,
    *,
    progress: bool = False,
) -> Iterator[list[BenchmarkPrediction]]:
    """Ask one batch after the other, each when its rows are taken.

    A row is a function of its batch: batches of other questions around it change nothing, and other
    questions in it no more than the rounding of numbers.

    Args:
        answerer: What answers.
        batches: Batches of one kind each, as :func:`question_batches` cuts them.
        config: How to ask.
        failures: Counts unreadable videos.
        progress: Show a progress bar.

    Yields:
        The graded predictions of a batch, in its order.

    Raises:
        UnreadableVideosError: More videos were unreadable than ``failures`` allows.
    """
    for batch in tqdm(batches, disable=not progress, unit="batch"):
        start = time.perf_counter()
        # Seconds of a batch are shared evenly: single questions have no time of their own.
        rows = _ask(answerer, batch, config, failures)
        share = (time.perf_counter() - start) / len(batch)
        yield [grade(replace(row, batch_seconds_share=share)) for row in rows]


def question_batches(examples: Sequence[Example], batch_size: int) -> list[list[Example]]:
    """Cut examples into batches that can be answered together.

    A batch is either all multiple choice or all open-ended. Questions about one span of a video
    follow each other, so that its tokens are loaded, and what their prompts share is computed,
    once. Spans come by the mean length of their prompts, longest first, and the questions of each
    by length: a batch has little padding, and one that needs too much memory is the first.
    """
    # By kind and span; sorted by id first, so that the order of the input does not matter.
    by_span: dict[tuple[bool, MediaSpan], list[Example]] = {}
    for example in sorted(examples, key=lambda example: example.id):
        by_span.setdefault((bool(example.options), example.media_span), []).append(example)

    def order(key: tuple[bool, MediaSpan]) -> tuple[bool, float, str, str]:
        examples = by_span[key]
        mean = sum(example.prompt_length for example in examples) / len(examples)
        return key[0], -mean, key[1][0], examples[0].id

    batches: list[list[Example]] = []
    for number, key in enumerate(sorted(by_span, key=order)):
        # Every other span ends with its longest prompt, beside the longest of the next one.
        for example in sorted(
            by_span[key], key=lambda example: example.prompt_length, reverse=not number % 2
        ):
            # Spans share a batch until it is full, kinds never do.
            last = batches[-1] if batches else []
            if last and len(last) < batch_size and bool(last[0].options) == key[0]:
                last.append(example)
            else:
                batches.append([example])
    return batches


def _ask(
    answerer: Answerer, batch: Sequence[Example], config: EvaluationConfig, failures: FailureLog
) -> list[BenchmarkPrediction]:
    """Ask each question of a batch by the capability that it needs."""
    # Questions of a batch may need different methods, and some none that there is.
    capabilities = [needed_capability(example, answerer, config) for example in batch]
    methods = [answerer.method(capability) for capability in capabilities]
    replies: list[Reply | None] = [None] * len(batch)  # None: nobody answers it
    for method in dict.fromkeys(methods):  # one function is called once, whatever its names
        indices = [index for index, candidate in enumerate(methods) if candidate is method]
        if method is not None:
            answered = method(answerer, [batch[index] for index in indices])
            for index, reply in zip(indices, answered, strict=True):
                replies[index] = reply
    # May raise: too many unreadable videos end the run here.
    failures.record(
        len(batch),
        [
            reply.error.failure(example.id)
            for example, reply in zip(batch, replies, strict=True)
            if reply is not None and reply.error is not None
        ],
    )
    return [
        replace(
            unanswered(example),
            missing_capability=answerer.not_applicable or capability,
            # Nothing to score, but what there is of it is kept.
            record={} if reply is None else reply.record,
        )
        if reply is None or not reply.applies
        else _row(example, reply)
        for example, reply, capability in zip(batch, replies, capabilities, strict=True)
    ]


def _row(example: Example, reply: Reply) -> BenchmarkPrediction:
    return replace(
        unanswered(example),
        output=reply.output,
        option_log_likelihoods=reply.log_likelihoods,
        option_token_counts=reply.token_counts,
        futures=checked_futures(reply.futures),
        num_prompt_tokens=reply.num_prompt_tokens,
        num_visual_tokens=reply.num_visual_tokens,
        num_generated_tokens=reply.num_generated_tokens,
        record=reply.record,
        error="" if reply.error is None else str(reply.error),
    )
