"""Single key frames with a question and a pseudo-label: what SeViLA's localizer learns from."""

from collections.abc import Sequence
from typing import NamedTuple

from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from vidreason.baselines.sevila_decoder.key_frames import NO, YES, key_frames, localizer_request
from vidreason.baselines.sevila_decoder.localizer_training import KeyFrameBatch
from vidreason.example import Example
from vidreason.perception.visual_tokens import TokenSource, VisualTokens, collate_visual_tokens
from vidreason.reasoning.text_batch import collate_texts
from vidreason.reasoning.tokenization import EncodedText, encode_example


class LabelledFrame(NamedTuple):
    """A sample before its tokens are read."""

    example: Example
    rank: int
    """Which of the span's key frames."""
    helps: bool


class KeyFrameSample(NamedTuple):
    """A sample."""

    frame: VisualTokens
    text: EncodedText
    opposite: EncodedText


class KeyFrameSamples(Dataset[KeyFrameSample]):
    """Samples of labelled frames.

    Args:
        frames: The frames.
        source: Visual tokens of whole spans.
        tokenizer: The language model's.
        max_text_tokens: Longest request and answer together.
        system_prompt: The reasoner's.
    """

    def __init__(
        self,
        frames: Sequence[LabelledFrame],
        source: TokenSource,
        tokenizer: PreTrainedTokenizerBase,
        max_text_tokens: int,
        system_prompt: str | None,
    ) -> None:
        self.frames = frames
        self._source = source
        self._tokenizer = tokenizer
        self._max_text_tokens = max_text_tokens
        self._system_prompt = system_prompt

    def __len__(self) -> int:
        return len(self.frames)

    @override
    def __getitem__(self, index: int) -> KeyFrameSample:
        example, rank, helps = self.frames[index]
        tokens = self._source(*example.media_span)
        request, turns = localizer_request(example)
        # The answer that is taught; and the other, with which validation compares its likelihood.
        text, opposite = (
            encode_example(
                self._tokenizer, request, word, self._max_text_tokens, self._system_prompt, turns
            )
            for word in ((YES, NO) if helps else (NO, YES))
        )
        return KeyFrameSample(key_frames(tokens)[rank], text, opposite)


def collate_key_frames(samples: Sequence[KeyFrameSample]) -> KeyFrameBatch:
    """Batch samples in their order."""
    return KeyFrameBatch(
        visual=collate_visual_tokens([sample.frame for sample in samples]),
        text=collate_texts([sample.text for sample in samples]),
        opposite=collate_texts([sample.opposite for sample in samples]),
    )
