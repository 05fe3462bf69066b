"""Answering benchmark questions with a reasoner: questions in, one judged prediction each out.

Shapes: B rows of a batch, T text tokens.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from vidreason.evaluation.controls import Control, Span, controlled_source
from vidreason.evaluation.predictions.rows import (
    BenchmarkPrediction,
    align_predictions,
    judge,
    unanswered,
)
from vidreason.example import Example
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import (
    TokenSource,
    VisualTokens,
    collate_visual_tokens,
    move_visual_tokens,
)
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.failures import FailureLog, VideoReadError


@dataclass(kw_only=True)
class EvaluationConfig:
    """Settings for answering and scoring benchmark questions."""

    multiple_choice: Literal["likelihood", "generate"] = "likelihood"
    """``likelihood``: the option whose text has the highest log-likelihood per token, end-of-turn
    token included; every question has an answer. ``generate``: the option that the generated text
    names, or none."""
    control: Control = "none"
    """What the visual tokens are replaced by; see
    :func:`vidreason.evaluation.controls.controlled_source`."""
    batch_size: int = 8
    """Questions at a time. What the options of a question and the questions of a video share is
    computed once; a language model that cannot do so needs one row an option: 40 rows for 8
    questions with 5 options."""
    max_text_tokens: int = 1024
    """Longest prompt and option together, in tokens."""
    max_unreadable_fraction: float = 0.0
    """Share of questions whose video may be unreadable. They count as wrong; beyond the share the
    evaluation stops, because its number would be about the disk and not the model."""
    every_n_steps: int = 0
    """During training: optimizer steps between two evaluations; 0 for validation time only."""
    limit: int | None = None
    """During training: answer only so many questions of each benchmark, spread evenly over it; None
    for all."""
    seed: int = 0
    """Seed of the controls."""
    report_items: int = 100
    """How many questions the HTML page shows the frames of, chosen evenly from right and wrong ones
    of each corpus; 0 for none. All other questions about the same videos have them, too."""
    num_calibration_questions: int = 500
    """``evaluate`` also answers at most so many questions of each of ``data.validation`` that is
    asked in the benchmark, too, and fits a temperature of the confidences on them. 0 for none."""
    wordnet: str = ""
    """Folder of WordNet 3.0's database files, such as ``/usr/share/wordnet``, by which NExT-QA's
    open-ended questions are scored; empty for exact match."""
    stop_words: str = ""
    """The ``stopwords.txt`` of that benchmark's repository."""
    bertscore_model: str = ""
    """Folder of an encoder, such as ``roberta-large``, by which free answers are compared with
    their references, too; empty for none."""
    bertscore_layer: int | None = None
    """Whose hidden states are compared. None: the usual one of a known model."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("batch_size", "max_text_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"evaluation.{name} is {getattr(self, name)}; it must be at least 1"
                )
        for name in ("num_calibration_questions", "bertscore_layer"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"evaluation.{name} is {value}; it must be 0 or more")
        if self.every_n_steps < 0:
            raise ValueError(f"evaluation.every_n_steps is {self.every_n_steps}; use 0 for never")
        if self.limit is not None and self.limit < 1:
            raise ValueError(
                f"evaluation.limit is {self.limit}; it must be at least 1, or null for all"
            )
        if self.report_items < 0:
            raise ValueError(f"evaluation.report_items is {self.report_items}; use 0 for no frames")
        if not 0.0 <= self.max_unreadable_fraction <= 1.0:
            raise ValueError(
                f"evaluation.max_unreadable_fraction is {self.max_unreadable_fraction}; it is a "
                "share, from 0 to 1"
            )


class LoadedExample(NamedTuple):
    """A question with its visual tokens, or with the reason why there are none."""

    example: Example
    tokens: VisualTokens | None
    error: VideoReadError | None = None


def evaluate_examples(
    reasoner: VideoReasoner,
    source: TokenSource,
    examples: Sequence[Example],
    config: EvaluationConfig,
    decoding: DecodingConfig,
    *,
    progress: bool = False,
) -> list[BenchmarkPrediction]:
    """Answer ``examples`` one batch after the other, in this process.

    Args:
        reasoner: Put into evaluation mode, and back at the end.
        source: Visual tokens of ``(media, start_seconds, end_seconds)``, before any control.
        examples: Multiple-choice and open-ended questions, mixed at will.
        config: How to answer.
        decoding: How to generate open-ended answers.
        progress: Show a progress bar.

    Returns:
        One judged prediction an example, in the order of ``examples``.

    Raises:
        UnreadableVideosError: More videos were unreadable than the configuration allows.
        ValueError: Two examples have one id, or a control cannot be made.
    """
    source = controlled_source(source, examples, config.control, config.seed)
    batches = question_batches(examples, config.batch_size)
    failures = FailureLog(None, config.max_unreadable_fraction, len(examples))
    answered = answer_batches(
        reasoner, source, batches, config, decoding, failures, progress=progress
    )
    predictions = [prediction for rows in answered for prediction in rows]
    return align_predictions(predictions, [example.id for example in examples])


def answer_batches(
    reasoner: VideoReasoner,
    source: TokenSource,
    batches: Sequence[Sequence[Example]],
    config: EvaluationConfig,
    decoding: DecodingConfig,
    failures: FailureLog,
    *,
    progress: bool = False,
) -> Iterator[list[BenchmarkPrediction]]:
    """Answer one batch after the other, each when it is asked for.

    A row is a function of its batch: batches of other questions around it change nothing, and other
    questions in it no more than the rounding of numbers.

    Args:
        reasoner: Put into evaluation mode, and back at the end.
        source: Visual tokens under the control, see :func:`controlled_source`.
        batches: Batches of one kind each, as :func:`question_batches` cuts them.
        config: How to answer; its control is the source's business.
        decoding: How to generate open-ended answers.
        failures: Counts unreadable videos.
        progress: Show a progress bar.

    Yields:
        The judged predictions of a batch, in its order.

    Raises:
        UnreadableVideosError: More videos were unreadable than ``failures`` allows.
    """
    for batch in tqdm(batches, disable=not progress, unit="batch"):
        start = time.perf_counter()
        loaded = load_examples(source, batch)
        failures.record(
            len(batch),
            [item.error.failure(item.example.id) for item in loaded if item.error is not None],
        )
        with evaluation_mode(reasoner):  # not around a yield: the caller's own is the caller's
            rows = _answer(reasoner, loaded, config, decoding)
        share = (time.perf_counter() - start) / len(batch)
        yield [judge(replace(row, batch_seconds_share=share)) for row in rows]


def question_batches(examples: Sequence[Example], batch_size: int) -> list[list[Example]]:
    """Cut examples into batches that can be answered together.

    A batch is either all multiple choice or all open-ended. Questions about one span of a video
    follow each other, so that its tokens are loaded, and what their prompts share is computed,
    once. Spans come by the mean length of their prompts, longest first, and the questions of each
    by length: a batch has little padding, and one that needs too much memory is the first.
    """
    by_span: dict[tuple[bool, Span], list[Example]] = {}
    for example in sorted(examples, key=lambda example: example.id):
        by_span.setdefault((bool(example.options), _span(example)), []).append(example)

    def order(key: tuple[bool, Span]) -> tuple[bool, float, str, str]:
        own = by_span[key]
        mean = sum(len(example.prompt) for example in own) / len(own)
        return key[0], -mean, key[1][0], own[0].id

    batches: list[list[Example]] = []
    for number, key in enumerate(sorted(by_span, key=order)):
        # Every other span ends with its longest prompt, beside the longest of the next one.
        own = sorted(by_span[key], key=lambda example: len(example.prompt), reverse=not number % 2)
        for example in own:
            last = batches[-1] if batches else []
            if last and len(last) < batch_size and bool(last[0].options) == key[0]:
                last.append(example)
            else:
                batches.append([example])
    return batches


def load_examples(source: TokenSource, examples: Sequence[Example]) -> list[LoadedExample]:
    """Load the visual tokens of a batch; a span that follows itself is loaded once."""
    loaded: list[LoadedExample] = []
    previous: Example | None = None
    for example in examples:
        if previous is not None and _span(previous) == _span(example):
            loaded.append(LoadedExample(example, loaded[-1].tokens, loaded[-1].error))
        else:
            try:
                loaded.append(LoadedExample(example, source(*_span(example))))
            except VideoReadError as error:
                loaded.append(LoadedExample(example, None, error))
        previous = example
    return loaded


@contextmanager
def evaluation_mode(reasoner: torch.nn.Module) -> Iterator[None]:
    """No dropout, no gradients; modes and random state are restored at the end."""
    modes = {module: module.training for module in reasoner.modules()}
    device = _device(reasoner)
    cuda_devices = [device] if device.type == "cuda" else []
    reasoner.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=cuda_devices):
            yield
    finally:
        for module, training in modes.items():  # frozen parts may be in another mode than the rest
            module.training = training


def spread_examples(examples: Sequence[Example], limit: int | None) -> list[Example]:
    """Some examples of each corpus, evenly spread over it, in order.

    Args:
        examples: Of any corpora.
        limit: How many of each corpus at most, where examples of one group count once and are taken
            together; None for all.
    """
    by_corpus: dict[str, dict[tuple[str, str], list[Example]]] = {}
    for example in examples:
        group = (example.group_id, "" if example.group_id else example.id)
        by_corpus.setdefault(example.corpus, {}).setdefault(group, []).append(example)
    chosen: list[Example] = []
    for groups in by_corpus.values():
        own = list(groups.values())
        number = len(own) if limit is None else min(limit, len(own))
        for index in range(number):
            chosen += own[index * len(own) // number]
    return chosen


def _answer(
    reasoner: VideoReasoner,
    batch: Sequence[LoadedExample],
    config: EvaluationConfig,
    decoding: DecodingConfig,
) -> list[BenchmarkPrediction]:
    rows = [
        replace(unanswered(item.example), error="" if item.error is None else str(item.error))
        for item in batch
    ]
    readable = [index for index, item in enumerate(batch) if item.tokens is not None]
    if not readable:
        return rows
    examples = [batch[index].example for index in readable]
    tokens = [item.tokens for item in batch if item.tokens is not None]
    for index, example in zip(readable, examples, strict=True):
        length = len(reasoner.encode_prompt(example.prompt))
        rows[index] = replace(rows[index], num_prompt_tokens=length)
    if examples[0].options and config.multiple_choice == "likelihood":
        scores = _score_options(reasoner, examples, tokens, config.max_text_tokens)
        for index, (means, counts) in zip(readable, scores, strict=True):
            rows[index] = replace(
                rows[index], option_log_likelihoods=means, option_token_counts=counts
            )
    else:
        visual = move_visual_tokens(collate_visual_tokens(tokens), _device(reasoner))
        prompts = [example.prompt for example in examples]
        ids = reasoner.generate_ids(visual, prompts, decoding)
        outputs = reasoner.decode(ids)
        for index, own, output in zip(readable, ids, outputs, strict=True):
            rows[index] = replace(rows[index], output=output, num_generated_tokens=len(own))
    return rows


def _score_options(
    reasoner: VideoReasoner,
    examples: Sequence[Example],
    tokens: Sequence[VisualTokens],
    max_text_tokens: int,
) -> list[tuple[tuple[float, ...], tuple[int, ...]]]:
    """For each question, its options' log-likelihoods per token and numbers of tokens."""
    texts = [
        reasoner.encode_example(example.prompt, option, max_text_tokens)
        for example in examples
        for option in example.options
    ]
    videos: list[VisualTokens] = []
    of_texts: list[int] = []
    for own, example in zip(tokens, examples, strict=True):
        if not videos or videos[-1] is not own:
            videos.append(own)
        of_texts += [len(videos) - 1] * len(example.options)
    visual = move_visual_tokens(collate_visual_tokens(videos), _device(reasoner))
    sums, counts = reasoner.response_log_likelihoods(visual, of_texts, texts)
    means = (sums / counts).tolist()
    results, start = [], 0
    for example in examples:
        of_example = slice(start, start + len(example.options))
        results.append((tuple(means[of_example]), tuple(counts[of_example].tolist())))
        start = of_example.stop
    return results


def _span(example: Example) -> Span:
    return example.media, example.start_seconds, example.end_seconds


def _device(module: torch.nn.Module) -> torch.device:
    return next(module.parameters()).device
