"""Made-up inputs of the right sizes: visual tokens, and texts of log-normal lengths.

Of captions and answers a few are long and most are short, about log-normally; the longest of a
batch decides what padding costs. ``fill`` is the share of positions that are no padding.
"""

import argparse
import math
from collections.abc import Sequence

import torch
from torch import Generator
from transformers import PreTrainedTokenizerBase

from data_modules.video_text import Sample
from vidreason.perception.visual_tokens import CLIP_TOKEN, OBJECT_TOKEN, VisualTokens
from vidreason.reasoning.tokenization import IGNORE_INDEX, EncodedText

_WORDS = (
    *("the", "a", "red", "blue", "green", "small", "large", "ball", "cube", "ring"),
    *("rolls", "hits", "stops", "turns", "before", "after"),
)


def check_positive(arguments: argparse.Namespace, *names: str) -> None:
    """Make sure that options are at least 1.

    Raises:
        ValueError: One is not.
    """
    for name in names:
        if (value := getattr(arguments, name)) < 1:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{flag} is {value}; it must be at least 1")


def draw_lengths(
    count: int, *, median: int, sigma: float, longest: int, generator: Generator
) -> list[int]:
    """Log-normal lengths, from 1 to ``longest``.

    Raises:
        ValueError: ``sigma`` is below 0.
    """
    if sigma < 0:
        raise ValueError(f"--sigma is {sigma}; it must be 0 or more")
    logarithms = math.log(median) + sigma * torch.randn(count, generator=generator)
    return logarithms.exp().round().long().clamp(1, longest).tolist()


def fill(lengths: Sequence[int]) -> float:
    """Share of positions that are no padding if rows of these lengths are padded to the longest."""
    return sum(lengths) / (len(lengths) * max(lengths))


def random_text(
    num_prompt: int, num_response: int, vocabulary: int, generator: Generator
) -> EncodedText:
    """Random token ids of a prompt, and of a response whose tokens are the targets."""
    ids = torch.randint(vocabulary, (num_prompt + num_response,), generator=generator).tolist()
    return EncodedText(input_ids=ids, labels=[IGNORE_INDEX] * num_prompt + ids[num_prompt:])


def random_words(tokenizer: PreTrainedTokenizerBase, num_tokens: int, generator: Generator) -> str:
    """Words that are about ``num_tokens`` tokens long, and at least one word."""
    words: list[str] = []
    length = 0
    while length < num_tokens:
        word = _WORDS[int(torch.randint(len(_WORDS), (1,), generator=generator))]
        words.append(word)
        # With the space before it, as within a text.
        length += len(tokenizer.encode(f" {word}", add_special_tokens=False))
    return " ".join(words)


def random_video(
    num_clips: int, num_objects: int, width: int, generator: Generator
) -> VisualTokens:
    """Visual tokens of a video of 10 s: clips, then objects at random times and boxes."""
    total = num_clips + num_objects
    # Clips follow each other without a gap, and see the whole frame.
    edges = torch.linspace(0.0, 10.0, num_clips + 1)
    times = 10.0 * torch.rand(num_objects, generator=generator)
    # Two corners, the upper left one first: (objects, 2, 2)
    corners = torch.rand(num_objects, 2, 2, generator=generator).sort(dim=1).values
    return VisualTokens(
        features=torch.randn(total, width, generator=generator),
        kinds=torch.tensor([CLIP_TOKEN] * num_clips + [OBJECT_TOKEN] * num_objects),
        spans=torch.cat(
            # An object is seen at a moment, which begins and ends its span.
            [torch.stack([edges[:-1], edges[1:]], dim=1), torch.stack([times, times], dim=1)]
        ),
        boxes=torch.cat(
            [torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(num_clips, 4), corners.flatten(1)]
        ),
        areas=torch.cat(
            [torch.ones(num_clips), 0.2 * torch.rand(num_objects, generator=generator)]
        ),
        track_ids=torch.tensor([-1] * num_clips + list(range(num_objects))),
        masks=(None,) * total,
        duration_seconds=10.0,
    )


def random_samples(
    count: int, arguments: argparse.Namespace, *, width: int, vocabulary: int, generator: Generator
) -> list[Sample]:
    """Training samples: random tokens, with responses of log-normal lengths."""
    lengths = draw_lengths(
        count,
        median=arguments.median_tokens,
        sigma=arguments.sigma,
        longest=arguments.longest,
        generator=generator,
    )
    return [
        Sample(
            id=f"random:train:{number}",
            tokens=random_video(arguments.clips, arguments.objects, width, generator),
            text=random_text(arguments.prompt_tokens, length, vocabulary, generator),
        )
        for number, length in enumerate(lengths)
    ]
