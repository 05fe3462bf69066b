"""Answering questions: batches of similar length, any batches, one by one, and nothing shared.

Evaluation reads what questions about one video begin with once, and a prompt once for all beams of
a search; the last way reads each row from its first position on. All ways keep the keys and values
of what has been read. Rows of a batch are padded on the left to
its longest prompt, so that batches of similar lengths, which evaluation makes, hold less padding.
Answers that differ between the ways are counted: where two tokens are equally likely but for
rounding, a batch may choose the other one.

Models of random weights hardly ever end an answer, so that each is as long as is allowed.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Generator

from experiments.benchmark.flops import forward_flops
from experiments.benchmark.gpu_numbers import gpu_numbers, gpu_tables, measure_chip
from experiments.benchmark.paired import clock_of, ratios, seconds_in_turns, spread, spread_text
from experiments.benchmark.reasoners import build, describe, device_of
from experiments.benchmark.workloads import (
    check_positive,
    draw_lengths,
    fill,
    random_video,
    random_words,
)
from vidreason.evaluation.benchmark import question_batches
from vidreason.evaluation.reasoner_answerer import evaluation_mode
from vidreason.example import Example
from vidreason.markdown import table
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import (
    VisualTokens,
    collate_visual_tokens,
    move_visual_tokens,
)
from vidreason.reasoning.decoding import generate_ids, prompt_embeddings
from vidreason.reasoning.language_model import causal_lm
from vidreason.reasoning.reasoner_config import DecodingConfig

Batches = Sequence[Sequence[Example]]
ALONE = "by length, each row alone"
Answers = dict[str, list[int]]
"""Token ids by question."""


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure; returns seconds for all questions, ratios, and how many answers are the same.

    Raises:
        ValueError: An option is out of range.
    """
    names = ("batch_size", "questions", "new_tokens", "median_tokens", "longest", "rounds")
    check_positive(arguments, *names, "num_queries", "questions_a_video", "beams")
    device = device_of(arguments)
    chip = measure_chip(device) if arguments.gpu else None
    reasoner = build(arguments).eval()
    examples, tokens = _draw_questions(arguments, reasoner)
    size = arguments.batch_size
    ways: dict[str, Batches] = {
        "by length": question_batches(examples, size),
        "in any order": [examples[start : start + size] for start in range(0, len(examples), size)],
        "one by one": [[example] for example in examples],
    }
    decoding = DecodingConfig(max_new_tokens=arguments.new_tokens)
    if arguments.beams > 1:
        decoding = replace(decoding, strategy="beam", num_beams=arguments.beams)
    calls: dict[str, Callable[[], Answers]] = {
        name: partial(_answers, batches, partial(answer, reasoner, tokens, decoding))
        for name, batches in ways.items()
    }
    ways[ALONE] = ways["by length"]
    # The batches are those of the first way: only what is read once differs.
    calls[ALONE] = partial(_answers, ways[ALONE], partial(answer_alone, reasoner, tokens, decoding))
    # The reasoner's own generate_ids turns gradients off; answer_alone goes around it.
    with evaluation_mode(reasoner):
        answers = {name: call() for name, call in calls.items()}  # to be warm, and compared
        seconds = seconds_in_turns(calls, arguments.rounds, clock_of(device))
        spreads = {name: spread(values) for name, values in seconds.items()}
        measured: dict[str, Any] = {
            "model": describe(arguments, reasoner),
            "clock": "CPU" if device.type == "cpu" else "wall",
            "questions": {
                "videos": len(tokens),
                "beams": arguments.beams,
                **_describe(reasoner, ways, answers["by length"]),
            },
            "equal_answers": {
                # One by one, no row is padded: the other ways are held to these answers.
                name: sum(given[key] == answers["one by one"][key] for key in given)
                for name, given in answers.items()
            },
            "seconds": spreads,
            "times_by_length": ratios(seconds, to="by length"),
        }
        if chip is not None:
            flops = _flops(reasoner, examples, tokens, answers["by length"])
            measured["gpu"] = gpu_numbers(chip, flops, spreads, calls, device)
    return measured


def tables(measured: Mapping[str, Any]) -> Iterator[str]:
    """The numbers of :func:`run` as Markdown."""
    questions = measured["questions"]
    total = questions["questions"]
    yield (
        f"{total} questions about {questions['videos']} videos, {questions['batch_size']} at a "
        f"time, {questions['beams']} beams; prompts of "
        f"{questions['prompt_positions']:.0f} positions on average, video embeddings included, and "
        f"{questions['answer_tokens']:.0f} tokens generated for each."
    )
    yield table(
        ["Batches", "fill", f"{measured['clock']} s", "times by length", "answers as one by one"],
        (
            [
                name,
                f"{questions['fill'][name]:.2f}",
                spread_text(seconds, 2),
                spread_text(measured["times_by_length"][name]),
                f"{measured['equal_answers'][name]}/{total}",
            ]
            for name, seconds in measured["seconds"].items()
        ),
    )
    if "gpu" in measured:
        yield from gpu_tables(measured["gpu"])


def answer(
    reasoner: VideoReasoner,
    tokens: Mapping[str, VisualTokens],
    decoding: DecodingConfig,
    batch: Sequence[Example],
) -> list[list[int]]:
    """Answer questions together, as evaluation does."""
    # Each video once, in the order of its first question; questions name it by its index.
    media = list(dict.fromkeys(example.media for example in batch))
    videos = [media.index(example.media) for example in batch]
    visual = collate_visual_tokens([tokens[name] for name in media])
    prompts = [example.prompt for example in batch]
    return reasoner.generate_ids(visual, prompts, decoding, videos=videos)


def answer_alone(
    reasoner: VideoReasoner,
    tokens: Mapping[str, VisualTokens],
    decoding: DecodingConfig,
    batch: Sequence[Example],
) -> list[list[int]]:
    """Answer questions together, but read each row, and each beam, whole."""
    model, device = causal_lm(reasoner.language_model), next(reasoner.parameters()).device
    # A video's tokens once for each of its questions, and no cache of what prompts share.
    visual = collate_visual_tokens([tokens[example.media] for example in batch])
    video = reasoner.fusion(move_visual_tokens(visual, device))
    prompts = [reasoner.encode_prompt(example.prompt) for example in batch]
    embeddings, mask = prompt_embeddings(model, video, prompts)
    return generate_ids(model, embeddings, mask, decoding, reasoner.stop_ids)


def _answers(batches: Batches, read: Callable[[Sequence[Example]], Sequence[list[int]]]) -> Answers:
    answers: Answers = {}
    for batch in batches:
        answers.update(zip([example.id for example in batch], read(batch), strict=True))
    return answers


def _draw_questions(
    arguments: argparse.Namespace, reasoner: VideoReasoner
) -> tuple[list[Example], dict[str, VisualTokens]]:
    """Questions about videos, and the videos' visual tokens by file."""
    generator = Generator().manual_seed(arguments.seed)
    lengths = draw_lengths(
        arguments.questions,
        median=arguments.median_tokens,
        sigma=arguments.sigma,
        longest=arguments.longest,
        generator=generator,
    )
    examples = [
        Example(
            id=f"random:test:{number:04}",
            corpus="random",
            # Neighbours are about one video.
            media=f"{number // arguments.questions_a_video:04}.mp4",
            video_id=f"{number // arguments.questions_a_video:04}",
            prompt=random_words(reasoner.tokenizer, length, generator),
            response="",
        )
        for number, length in enumerate(lengths)
    ]
    sizes = arguments.clips, arguments.objects, reasoner.visual_dim
    media = dict.fromkeys(example.media for example in examples)
    return examples, {name: random_video(*sizes, generator) for name in media}


def _describe(
    reasoner: VideoReasoner, ways: Mapping[str, Batches], answers: Answers
) -> dict[str, Any]:
    """Sizes of the questions; fill is that of the prompts."""
    queries = reasoner.fusion.num_embeddings

    def length(example: Example) -> int:
        # Positions of the language model: video embeddings, then the prompt with its chat markup.
        return queries + len(reasoner.encode_prompt(example.prompt))

    lengths = {
        name: [[length(example) for example in batch] for batch in batches]
        for name, batches in ways.items()
    }
    every = [length for batch in lengths["one by one"] for length in batch]
    return {
        "questions": len(every),
        "batch_size": max(map(len, ways["by length"])),
        "prompt_positions": sum(every) / len(every),
        "answer_tokens": sum(map(len, answers.values())) / len(answers),
        "fill": {name: sum(map(fill, batches)) / len(batches) for name, batches in lengths.items()},
    }


def _flops(
    reasoner: VideoReasoner,
    examples: Sequence[Example],
    tokens: Mapping[str, VisualTokens],
    answers: Answers,
) -> float:
    """Operations to read each prompt and to write its answer, each position once."""
    queries = reasoner.fusion.num_embeddings
    rows = [
        queries + len(reasoner.encode_prompt(example.prompt)) + len(answers[example.id])
        for example in examples
    ]
    num_generated = sum(map(len, answers.values()))
    return forward_flops(reasoner, rows, num_generated, len(tokens[examples[0].media])).total
