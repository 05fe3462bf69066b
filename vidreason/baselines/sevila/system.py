"""SeViLA as a baseline: its released weights, frames, texts and scoring of options.

Shapes: T frames, P patches of a frame, E width of the vision tower, S image side in pixels.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from vidreason.baselines.blip2_files import blip2_folder, blip2_hash
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frame_squares import clip_squares
from vidreason.baselines.frames import FrameRule, Frames, middle_frames
from vidreason.baselines.part_files import check_parts, checkpoint_fidelity, part_revision
from vidreason.baselines.sevila.model import (
    NUM_KEY_FRAMES,
    SevilaModel,
    SevilaTokens,
    best_frames,
    pad_inputs,
)
from vidreason.baselines.sevila.prompts import MAX_TEXT_TOKENS, SevilaTexts, load_texts
from vidreason.baselines.sevila.weights import BLIP2_PREFIXES, SOURCE, load_model
from vidreason.baselines.system import Facts, System
from vidreason.evaluation.answerer import Reply
from vidreason.example import Example
from vidreason.pretrained.frozen_parts import content_hash
from vidreason.reasoning.decoding import generate_ids
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.reasoning.tokenization import answer_text

NUM_FRAMES = 32
"""run_scripts/sevila/inference/nexqa_infer.sh: n_frms."""


class Sevila(System):
    """SeViLA with its weights in memory; see :meth:`load`.

    Args:
        model: Localizer and answerer, in eval mode.
        texts: Tokenizer and texts.
        decoding: How answers to open questions are generated.
    """

    parts = ("checkpoint", "blip2")

    def __init__(self, model: SevilaModel, texts: SevilaTexts, decoding: DecodingConfig) -> None:
        self.model = model
        self.texts = texts
        self._decoding = decoding

    def answer(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Answer each prompt in words, about the frames that the localizer chooses."""
        tokens = self.texts.tokens(NUM_KEY_FRAMES, 0)  # no letters: there are no options
        inputs = [
            self._input(patches, example, self.texts.open_ids(example.prompt), tokens)
            for patches, example in zip(self.see(videos), examples, strict=True)
        ]
        stop = self.texts.tokenizer.eos_token_id
        embeddings, mask = pad_inputs(inputs)
        rows = generate_ids(self.model.t5, embeddings, mask, self._decoding, [int(stop)])
        # The decoder's start token is not a part of the answer.
        answers = [row[1:] for row in rows]
        return [
            Reply(
                output=answer_text(self.texts.tokenizer, answer),
                num_prompt_tokens=int(row_mask.sum()),
                num_generated_tokens=len(answer),
            )
            for answer, (_, row_mask) in zip(answers, inputs, strict=True)
        ]

    def predict(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Predict next events in words, as the prompt asks for."""
        return self.answer(videos, examples)

    def choose(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Name the option whose letter has the highest logit at the answer's second token."""
        replies = []
        for example, reply in zip(examples, self.log_likelihoods(videos, examples), strict=True):
            best = int(np.argmax(reply.log_likelihoods))
            replies.append(
                Reply(
                    output=example.options[best],
                    num_prompt_tokens=reply.num_prompt_tokens,
                    num_generated_tokens=2,  # the first, and the letter
                )
            )
        return replies

    def log_likelihoods(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Return the log-softmax over the letters' logits, officially the only scoring there is."""
        replies = []
        for patches, example in zip(self.see(videos), examples, strict=True):
            tokens = self.texts.tokens(NUM_KEY_FRAMES, len(example.options))
            ids = self.texts.choice_ids(example)
            embeddings, mask = self._input(patches, example, ids, tokens)
            logits = self.model.second_logits(embeddings[None], mask[None])[0, tokens.letters]
            replies.append(
                Reply(
                    log_likelihoods=tuple(logits.log_softmax(0).tolist()),
                    token_counts=(1,) * len(example.options),
                    num_prompt_tokens=int(mask.sum()),
                )
            )
        return replies

    def see(self, videos: Sequence[Frames]) -> list[Tensor]:
        """Return the tower's tokens ``(T, 1 + P, E)`` of each video; repeats are seen once."""
        patches: list[Tensor] = []
        for index, video in enumerate(videos):
            # Questions about one video follow each other, with one object for its frames.
            if index and videos[index - 1] is video:
                patches.append(patches[-1])
            elif len(video.pixels):
                pixels = clip_squares(video.pixels, self.model.image_size)
                patches.append(self.model.vision(pixels.to(self._device)))
            else:
                # A blind run has no frame, and nothing to look at.
                patches.append(torch.empty(0, device=self._device))
        return patches

    def key_frames(self, patches: Tensor, example: Example, tokens: SevilaTokens) -> list[int]:
        """Return the sorted indices of the frames that the localizer chooses.

        Args:
            patches: From :meth:`see`, of at least one frame.
            example: The question.
            tokens: As many ``key_frames`` as are wanted.
        """
        ids = torch.tensor(self.texts.localizer_ids(example), device=self._device)
        return best_frames(self.model.yes_logits(patches, ids, tokens), len(tokens.key_frames))

    @classmethod
    def load(cls, config: BaselineConfig, decoding: DecodingConfig, device: torch.device) -> Self:
        """Load the released weights.

        ``weights`` names ``checkpoint``, such as ``sevila_pretrained.pth``, and ``blip2``, such as
        ``Salesforce/blip2-flan-t5-xl``.

        Raises:
            ValueError: A part is missing, damaged or of another layout.
        """
        check_parts(config, cls.parts)
        revision = part_revision(config, "blip2")
        blip2 = blip2_folder(config.weights["blip2"], revision, BLIP2_PREFIXES)
        texts = load_texts(blip2.path)
        dtype: torch.dtype = getattr(torch, config.dtype)
        model = load_model(config.weights["checkpoint"], blip2, device, dtype)
        return cls(model, texts, decoding)

    @classmethod
    def facts(cls, config: BaselineConfig) -> Facts:
        """Return the facts about the released model; a checkpoint of ours counts as re-trained."""
        deviations = [
            "frames are scaled after their conversion to RGB, not with it: values differ by 1 of "
            "255 on average, more at edges of colour",
            "open questions: the prompt stands where the lettered question does, not cut; "
            "officially there are none",
            "fewer than 32 frames are all shown, once; officially those of a span repeat until "
            "there are 32, and whole videos of fewer are not asked about",
            "questions and options get the marks of NExT-QA's prepared annotations at their ends "
            "where they have none",
            f"vision tower and T5 in {config.dtype}; officially float16 and bfloat16",
        ]
        if config.num_frames is not None:
            deviations.append(f"{config.num_frames} frames; officially {NUM_FRAMES}")
        return Facts(
            fidelity=checkpoint_fidelity(config),
            source=SOURCE,
            deviations=tuple(deviations),
            trained_on=("BLIP-2's image-text pairs", "QVHighlights (localizer)"),
            licence="BSD-3-Clause",
        )

    @classmethod
    def frame_rule(cls, config: BaselineConfig) -> FrameRule:
        """Return the official rule, or the shared one where ``num_frames`` is given."""
        return part_middles if config.num_frames is None else middle_frames(config.num_frames)

    @classmethod
    def identity(cls, config: BaselineConfig) -> dict[str, str]:
        """Return the content hashes of the weights; of the BLIP-2, of what is used alone.

        Raises:
            ValueError: Weights are missing.
        """
        check_parts(config, cls.parts)
        revision = part_revision(config, "blip2")
        blip2 = blip2_folder(config.weights["blip2"], revision, BLIP2_PREFIXES)
        return {
            "checkpoint": content_hash(config.weights["checkpoint"]),
            "blip2": blip2_hash(blip2, BLIP2_PREFIXES),
        }

    @classmethod
    def answering(cls, config: BaselineConfig) -> dict[str, Any]:
        """Return the settings that decide its answers."""
        return {
            "dtype": config.dtype,
            "key_frames": NUM_KEY_FRAMES,
            "max_text_tokens": MAX_TEXT_TOKENS,
        }

    @property
    def _device(self) -> torch.device:
        return self.model.answerer.projection.weight.device

    def _input(
        self, patches: Tensor, example: Example, ids: list[int], tokens: SevilaTokens
    ) -> tuple[Tensor, Tensor]:
        """Input of T5 about the frames that the localizer chooses, which are none without any."""
        if len(patches):
            patches = patches[self.key_frames(patches, example, tokens)]
        return self.model.answerer_input(patches, torch.tensor(ids, device=self._device), tokens)


def part_middles(available: int) -> list[int]:
    """Return the middles of 32 equal parts, or all of fewer frames (data_utils.py: load_video)."""
    edges = np.linspace(0, available, min(NUM_FRAMES, available) + 1).astype(int)
    return [int(index) for index in (edges[:-1] + edges[1:]) // 2]
