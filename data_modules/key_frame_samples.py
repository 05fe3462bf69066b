"""Single key frames with a question and a pseudo-label: what SeViLA's localizer learns from."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from data_modules.frame_windows import EpochOrder
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


class KeyFrameDataModule(LightningDataModule):
    """Batches of labelled frames, in an order that follows from seed and epoch.

    Args:
        train: Training samples.
        validation: Validation samples; there may be none.
        batch_size: Samples of a batch.
        seed: Of the order.
        num_workers: Processes that read tokens.
    """

    def __init__(
        self,
        train: KeyFrameSamples,
        validation: KeyFrameSamples,
        *,
        batch_size: int,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self._train = train
        self._validation = validation
        self._batch_size = batch_size
        self._seed = seed
        self._num_workers = num_workers

    @override
    def train_dataloader(self) -> DataLoader[KeyFrameSample]:
        def epoch() -> int:
            return 0 if self.trainer is None else self.trainer.current_epoch

        return self._loader(self._train, EpochOrder(len(self._train), self._seed, epoch))

    @override
    def val_dataloader(self) -> list[DataLoader[KeyFrameSample]]:
        return [self._loader(self._validation, None)] if len(self._validation) else []

    def _loader(
        self, samples: KeyFrameSamples, order: EpochOrder | None
    ) -> DataLoader[KeyFrameSample]:
        return DataLoader(
            samples,
            batch_size=self._batch_size,
            sampler=order,
            collate_fn=collate_key_frames,
            num_workers=self._num_workers,
            # Its own, so that building a loader draws no number that a step would get.
            generator=torch.Generator().manual_seed(self._seed),
        )
