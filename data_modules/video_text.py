"""From an example to a training batch: visual tokens, token ids and labels.

Shapes: B batch, V visual tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from vidreason.example import Example
from vidreason.perception.visual_tokens import (
    TokenSource,
    VisualBatch,
    VisualTokens,
    collate_visual_tokens,
)
from vidreason.reasoning.text_batch import TextBatch, collate_texts
from vidreason.reasoning.tokenization import IGNORE_INDEX, EncodedText, encode_example
from vidreason.video.failures import VideoFailure
from vidreason.video.reader import VideoReadError


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One example, ready to be batched."""

    id: str
    tokens: VisualTokens | None
    """None when the video could not be read."""
    text: EncodedText
    """No label but ``IGNORE_INDEX`` when the video could not be read."""
    failure: VideoFailure | None = None


class Batch(TypedDict):
    """A micro-batch of one rank, of B samples."""

    ids: list[str]
    """Example ids."""
    visual: VisualBatch
    text: TextBatch
    failures: list[VideoFailure]
    """The batch's unreadable videos, on their way from the worker process to the failure log."""


class VideoTextDataset(Dataset[Sample]):
    """Examples with their visual tokens and token ids.

    An example whose video cannot be read keeps its position in the batch: it has no visual token
    and no target token, so nothing is learnt from it, and never stands in for another video.

    Args:
        examples: What to load, by index.
        source: Visual tokens, from the store or by perceiving.
        tokenizer: The language model's.
        max_text_tokens: Longest prompt and response together.
        system_prompt: The reasoner's.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        source: TokenSource,
        tokenizer: PreTrainedTokenizerBase,
        max_text_tokens: int,
        system_prompt: str | None = None,
    ) -> None:
        self.examples = examples
        self.source = source
        self.tokenizer = tokenizer
        self.max_text_tokens = max_text_tokens
        self.system_prompt = system_prompt

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Sample:
        """Load one example.

        Raises:
            ValueError: The example has no response, because its reference is hidden, or its prompt
                leaves no room for one; the data modules leave such examples out.
        """
        example = self.examples[index]
        if not example.response:
            raise ValueError(
                f"example {example.id!r} has no response: the reference of this split is hidden; "
                "train and validate on a split with answers"
            )
        try:
            text = encode_example(
                self.tokenizer,
                example.prompt,
                example.response,
                self.max_text_tokens,
                self.system_prompt,
                example.earlier_turns,
            )
        except ValueError as error:
            # Which of a million rows it is.
            raise ValueError(f"example {example.id!r} of {example.media!r}: {error}") from error
        # An unreadable video keeps the text but no label, so that nothing is learnt.
        try:
            tokens = self.source(*example.media_span)
        except VideoReadError as error:
            return Sample(
                id=example.id,
                tokens=None,
                text=text._replace(labels=[IGNORE_INDEX] * len(text.labels)),
                failure=error.failure(example.id),
            )
        return Sample(id=example.id, tokens=tokens, text=text)


@dataclass(frozen=True, kw_only=True)
class Collator:
    """Makes a batch of samples; called as ``collator(samples)``."""

    visual_dim: int
    """Width of the visual tokens, needed for batches in which no video could be read."""

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Batch ``samples`` in their order.

        Raises:
            ValueError: Visual tokens have another width than ``visual_dim``.
        """
        dtype = torch.float32  # where no video of the batch could be read
        for sample in samples:
            if sample.tokens is not None:
                dtype = sample.tokens.features.dtype
                width = sample.tokens.features.shape[1]
                if width != self.visual_dim:
                    raise ValueError(
                        f"example {sample.id!r} has visual tokens of width {width}, expected "
                        f"{self.visual_dim}: the store was filled by another encoder than the "
                        "configured one"
                    )
        # All samples need the dtype of those that have tokens.
        empty = _no_tokens(self.visual_dim, dtype)
        return Batch(
            ids=[sample.id for sample in samples],
            visual=collate_visual_tokens(
                [empty if sample.tokens is None else sample.tokens for sample in samples]
            ),
            text=collate_texts([sample.text for sample in samples]),
            failures=[sample.failure for sample in samples if sample.failure is not None],
        )


def _no_tokens(visual_dim: int, dtype: torch.dtype) -> VisualTokens:
    return VisualTokens(
        features=torch.zeros(0, visual_dim, dtype=dtype),
        kinds=torch.zeros(0, dtype=torch.int64),
        spans=torch.zeros(0, 2),
        boxes=torch.zeros(0, 4),
        areas=torch.zeros(0),
        track_ids=torch.zeros(0, dtype=torch.int64),
        masks=(),
        duration_seconds=0.0,
    )
