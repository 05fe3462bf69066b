"""Scoring the options of questions: shared beginnings against one row an option.

An option's score is its log-likelihood after the video and the question. Ours computes what options
(and questions about one video) begin with once. Against it stand a row for each option, joined as
in training, and the usual way: padded rows with the logits of all positions. Every way begins with
texts, so that tokenisation counts; scores must agree, and so must the chosen options.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

import torch
from torch import Generator, Tensor

from experiments.benchmark.flops import forward_flops
from experiments.benchmark.gpu_numbers import gpu_numbers, gpu_tables, measure_chip
from experiments.benchmark.padded_rows import PaddedTexts, pad_texts, padded_log_likelihoods
from experiments.benchmark.paired import clock_of, ratios, seconds_in_turns, spread, spread_text
from experiments.benchmark.reasoners import (
    build,
    check_equal,
    describe,
    device_of,
    dtype_of,
)
from experiments.benchmark.workloads import (
    check_positive,
    draw_lengths,
    random_video,
    random_words,
)
from vidreason.evaluation.reasoner_answerer import evaluation_mode
from vidreason.markdown import table
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import (
    VisualBatch,
    VisualTokens,
    collate_visual_tokens,
    move_visual_tokens,
)
from vidreason.reasoning.text_batch import collate_texts, move_texts
from vidreason.reasoning.tokenization import EncodedText

_MAX_TOKENS = 2**20  # no text is cut off


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Questions that are scored together."""

    videos: Sequence[VisualTokens]
    prompts: Sequence[str]
    options: Sequence[Sequence[str]]
    """Options of each prompt, as many each."""
    video_of: Sequence[int]
    """Index of the video of each prompt."""

    def encode(self, reasoner: VideoReasoner) -> tuple[list[EncodedText], list[int]]:
        """Token ids of each prompt with each of its options, and the index of each text's video."""
        texts = [
            reasoner.encode_example(prompt, option, _MAX_TOKENS)
            for prompt, options in zip(self.prompts, self.options, strict=True)
            for option in options
        ]
        return texts, [video for video in self.video_of for _ in self.options[0]]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure; returns seconds a batch of questions, ratios, and what differs.

    Raises:
        ValueError: An option is out of range, or the ways do not agree in float32.
    """
    names = ("batch_size", "questions_a_video", "options", "option_tokens", "median_tokens")
    check_positive(arguments, *names, "longest", "rounds", "num_queries")
    device, dtype = device_of(arguments), dtype_of(arguments)
    chip = measure_chip(device) if arguments.gpu else None
    reasoner = build(arguments).eval()
    batches = _draw_questions(arguments, reasoner)
    with evaluation_mode(reasoner):
        measured: dict[str, Any] = {
            "model": describe(arguments, reasoner),
            "clock": "CPU" if device.type == "cpu" else "wall",
            "questions": _describe(batches, reasoner),
            "equal": _compare(reasoner, batches[0], dtype),
        }
        # A cycle for each way: in one round all of them have the same batch.
        turns = {
            name: partial(_score_next, way, reasoner, cycle(batches)) for name, way in WAYS.items()
        }
        seconds = seconds_in_turns(turns, arguments.rounds, clock_of(device))
        measured["seconds_a_batch"] = {name: spread(values) for name, values in seconds.items()}
        measured["times_shared"] = ratios(seconds, to="shared")
        if chip is not None:
            flops = sum(_flops(reasoner, batch) for batch in batches) / len(batches)
            spreads = measured["seconds_a_batch"]
            measured["gpu"] = gpu_numbers(chip, flops, spreads, turns, device)
    return measured


def tables(measured: Mapping[str, Any]) -> Iterator[str]:
    """The numbers of :func:`run` as Markdown."""
    questions, equal = measured["questions"], measured["equal"]
    yield (
        f"{questions['questions']} questions at a time about {questions['videos']} videos, "
        f"{questions['options']} options each; prompts of {questions['prompt_tokens']:.0f} and "
        f"options of {questions['option_tokens']:.1f} tokens on average, after "
        f"{questions['video_embeddings']} video embeddings. Scores differ by "
        f"{equal['score_difference']:.1e} (relative); the chosen option is the same for "
        f"{equal['same_choice']}."
    )
    yield table(
        ["Way", f"{measured['clock']} s a batch", "times shared"],
        (
            [name, spread_text(seconds, 3), spread_text(measured["times_shared"][name])]
            for name, seconds in measured["seconds_a_batch"].items()
        ),
    )
    if "gpu" in measured:
        yield from gpu_tables(measured["gpu"])


def score_shared(reasoner: VideoReasoner, questions: Questions) -> Tensor:
    """Sums of the log-likelihoods of all options, beginnings computed once; ours."""
    texts, video_of = questions.encode(reasoner)
    visual = _visual(reasoner, questions.videos)
    return reasoner.response_log_likelihoods(visual, video_of, texts)[0]


def score_joined_rows(reasoner: VideoReasoner, questions: Questions) -> Tensor:
    """The same with a row for each option, rows joined to one sequence."""
    texts, video_of = questions.encode(reasoner)
    # A video's tokens once for each of its options, of which each is a row.
    visual = _visual(reasoner, [questions.videos[video] for video in video_of])
    text = move_texts(collate_texts(texts), visual["mask"].device)
    log_likelihoods: Tensor = reasoner(visual, text)
    # (targets of all texts,) -> (texts,)
    sums: Tensor = log_likelihoods.new_zeros(len(texts)).index_add(
        0, text["target_rows"], log_likelihoods
    )
    return sums.cpu()


def score_padded_rows(reasoner: VideoReasoner, questions: Questions) -> Tensor:
    """The same with a padded row for each option, and the logits of all positions."""
    texts, video_of = questions.encode(reasoner)
    visual = _visual(reasoner, [questions.videos[video] for video in video_of])
    padded = PaddedTexts(*(tensor.to(visual["mask"].device) for tensor in pad_texts(texts)))
    return padded_log_likelihoods(reasoner, visual, padded).cpu()


Way = Callable[[VideoReasoner, Questions], Tensor]
WAYS: dict[str, Way] = {
    "shared": score_shared,
    "joined rows": score_joined_rows,
    "padded rows": score_padded_rows,
}
"""The first is ours."""


def _visual(reasoner: VideoReasoner, videos: Sequence[VisualTokens]) -> VisualBatch:
    return move_visual_tokens(collate_visual_tokens(videos), next(reasoner.parameters()).device)


def _score_next(way: Way, reasoner: VideoReasoner, batches: Iterator[Questions]) -> Tensor:
    return way(reasoner, next(batches))


def _draw_questions(arguments: argparse.Namespace, reasoner: VideoReasoner) -> list[Questions]:
    """A batch for each round."""
    generator = Generator().manual_seed(arguments.seed)

    def words(num_tokens: int) -> str:
        return random_words(reasoner.tokenizer, num_tokens, generator)

    batches = []
    for _ in range(arguments.rounds):
        lengths = draw_lengths(
            arguments.batch_size,
            median=arguments.median_tokens,
            sigma=arguments.sigma,
            longest=arguments.longest,
            generator=generator,
        )
        video_of = [number // arguments.questions_a_video for number in range(len(lengths))]
        sizes = arguments.clips, arguments.objects, reasoner.visual_dim
        batches.append(
            Questions(
                videos=[random_video(*sizes, generator) for _ in range(video_of[-1] + 1)],
                prompts=[words(length) for length in lengths],
                options=[
                    [words(arguments.option_tokens) for _ in range(arguments.options)]
                    for _ in lengths
                ],
                video_of=video_of,
            )
        )
    return batches


def _describe(batches: Sequence[Questions], reasoner: VideoReasoner) -> dict[str, Any]:
    """Sizes of the batches, in tokens where it says so."""
    texts = [text for batch in batches for text in batch.encode(reasoner)[0]]
    responses = [sum(label >= 0 for label in text.labels) for text in texts]
    total = sum(len(text.input_ids) for text in texts)
    return {
        "questions": len(batches[0].prompts),
        "videos": len(batches[0].videos),
        "options": len(batches[0].options[0]),
        "video_embeddings": reasoner.fusion.num_embeddings,
        "prompt_tokens": (total - sum(responses)) / len(texts),
        "option_tokens": sum(responses) / len(texts),
    }


def _compare(reasoner: VideoReasoner, questions: Questions, dtype: torch.dtype) -> dict[str, Any]:
    """Scores of all ways on one batch; it also warms them up."""
    scores = {name: way(reasoner, questions).double() for name, way in WAYS.items()}
    shape = len(questions.prompts), len(questions.options[0])
    # (questions * options,) each
    ours = scores["shared"]
    # Relative: a sum of log-likelihoods is as large as its option is long.
    difference = max(float(((values - ours) / ours).abs().max()) for values in scores.values())
    chosen = {name: values.view(shape).argmax(1) for name, values in scores.items()}
    same = sum(
        len({int(values[row]) for values in chosen.values()}) == 1 for row in range(shape[0])
    )
    check_equal("scores of options", difference, 1e-5, dtype)
    check_equal("chosen options", (shape[0] - same) / shape[0], 0.0, dtype)
    return {"score_difference": difference, "same_choice": f"{same}/{shape[0]}"}


def _flops(reasoner: VideoReasoner, questions: Questions) -> float:
    """Operations for a row of each question, which holds its beginning once, then its options."""
    texts, _ = questions.encode(reasoner)
    num_options = len(questions.options[0])
    rows, targets = [], 0
    for number in range(len(questions.prompts)):
        options = texts[number * num_options : (number + 1) * num_options]
        responses = [sum(label >= 0 for label in text.labels) for text in options]
        prompt = len(options[0].input_ids) - responses[0]
        # The last token of each option predicts nothing, so it need not be read.
        rows.append(reasoner.fusion.num_embeddings + prompt + sum(responses) - len(options))
        targets += sum(responses)
    return forward_flops(reasoner, rows, targets, len(questions.videos[0])).total
