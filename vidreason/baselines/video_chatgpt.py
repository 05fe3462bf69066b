"""Video-ChatGPT as a baseline: released weights, official frames and prompt, our decoding.

Options are scored where the answer begins, after ``ASSISTANT:``.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameRule, Frames, middle_frames
from vidreason.baselines.part_files import check_parts, checkpoint_fidelity, part_revision
from vidreason.baselines.spliced_prompts import SplicedPrompt, SplicedPromptSystem
from vidreason.baselines.system import Facts
from vidreason.baselines.video_chatgpt_model import MAX_FRAMES, VideoChatGPTModel, segment_middles
from vidreason.baselines.video_chatgpt_weights import (
    END_TOKEN,
    PATCH_TOKEN,
    SOURCE,
    START_TOKEN,
    checkpoint_file,
    load_model,
    load_tokenizer,
    load_vision,
)
from vidreason.perception.weights import local_folder
from vidreason.pretrained.frozen_parts import content_hash
from vidreason.reasoning.control_tokens import Markup, encode_markup
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.reasoning.tokenization import answer_text

SYSTEM_PROMPT = (
    "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the "
    "video content that the user provides, and assist the user with a variety of tasks using "
    "natural language."
    "Follow the instructions carefully and explain your answers in detail based on the provided "
    "video."
)
"""Prompt that the weights were trained with, the missing space included (video_conversation.py of
the source: ``video-chatgpt_v1``)."""

_BASE_FILES = ("*.json", "*.safetensors", "*.bin")
"""The base's repository holds no safetensors."""


class VideoChatGPT(SplicedPromptSystem):
    """Video-ChatGPT with its weights in memory; see :meth:`load`.

    Args:
        model: The modules, in eval mode.
        tokenizer: With the video's three tokens.
        decoding: How texts are generated.
        option_scoring: As in :class:`~vidreason.baselines.config.BaselineConfig`.
    """

    parts = ("checkpoint", "language_model", "clip")

    def __init__(
        self,
        model: VideoChatGPTModel,
        tokenizer: PreTrainedTokenizerFast,
        decoding: DecodingConfig,
        option_scoring: str = "letter",
    ) -> None:
        self._stop_id = int(tokenizer.eos_token_id)
        super().__init__(model.language_model, decoding, option_scoring, [self._stop_id])
        self.model = model
        self.tokenizer = tokenizer
        self._patch_id = cast(int, tokenizer.convert_tokens_to_ids(PATCH_TOKEN))

    def see(self, video: Frames) -> Tensor:
        """Return the temporal and spatial tokens of a video."""
        return self.model.see(video.pixels)

    def splice(self, video: Frames, tokens: Tensor | None, question: str) -> SplicedPrompt:
        """Return the prompt in the official markup, the video after the question."""
        markup = self._markup(question, has_video=tokens is not None)
        prompt = self._encode(markup)
        ids = torch.tensor(prompt, device=self.model.mm_projector.weight.device)
        return SplicedPrompt(
            self.model.embed(ids, tokens, self._patch_id),
            0 if tokens is None else len(tokens),
            partial(self._answer_ids, markup, prompt),
            [self._stop_id],
        )

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of an answer."""
        return answer_text(self.tokenizer, ids)

    def prompt_ids(self, question: str, *, has_video: bool) -> list[int]:
        """Return the tokens of a question in the official markup, up to where the answer begins.

        The video stands after the question; without a video its slot is left out.
        """
        return self._encode(self._markup(question, has_video=has_video))

    @classmethod
    def load(cls, config: BaselineConfig, decoding: DecodingConfig, device: torch.device) -> Self:
        """Load the released weights.

        ``weights`` names ``checkpoint`` (``video_chatgpt-7B.bin``, or what
        :func:`~vidreason.baselines.video_chatgpt_weights.convert_official` wrote),
        ``language_model`` (the base, with its ``tokenizer.json``) and ``clip``.

        Raises:
            ValueError: A part is missing, damaged or of another layout.
        """
        check_parts(config, cls.parts)
        dtype: torch.dtype = getattr(torch, config.dtype)
        folder, checkpoint = _base_folder(config), _checkpoint(config)
        tokenizer = load_tokenizer(folder)
        vision = load_vision(config.weights["clip"], part_revision(config, "clip"), dtype)
        model = load_model(vision, folder, checkpoint, len(tokenizer), device, dtype)
        return cls(model, tokenizer, decoding, config.option_scoring)

    @classmethod
    def facts(cls, config: BaselineConfig) -> Facts:
        """Return the facts about the released model; a checkpoint of ours counts as re-trained."""
        deviations = [
            "texts are decoded as the evaluation says; officially they are drawn with temperature "
            "0.2, at most 1024 tokens",
            "options are scored by likelihood; officially there are open questions alone",
            "answers keep their last letters; officially those of '</s>' are cut off, and 'grass' "
            "is 'gra'",
            "the output layer's rows for the video's tokens are zero; officially they are random "
            "at each start",
        ]
        if config.dtype != "float16":
            deviations.append(f"weights in {config.dtype}; officially in float16")
        if config.num_frames is not None:
            deviations.append(f"{config.num_frames} frames; officially up to {MAX_FRAMES}")
        return Facts(
            fidelity=checkpoint_fidelity(config),
            source=SOURCE,
            deviations=tuple(deviations),
            trained_on=("ActivityNet videos with generated instructions (VideoInstruct100K)",),
            licence="CC-BY-NC-SA-4.0 after its README, CC-BY-4.0 after its LICENSE; LLaMA's terms",
        )

    @classmethod
    def frame_rule(cls, config: BaselineConfig) -> FrameRule:
        """Return the official rule, or the shared one where ``num_frames`` is given.

        Raises:
            ValueError: ``num_frames`` is more than the model has temporal tokens for.
        """
        if config.num_frames is None:
            return segment_middles
        if config.num_frames > MAX_FRAMES:
            raise ValueError(
                f"baselines.num_frames is {config.num_frames}; Video-ChatGPT takes at most "
                f"{MAX_FRAMES}"
            )
        return middle_frames(config.num_frames)

    @classmethod
    def identity(cls, config: BaselineConfig) -> dict[str, str]:
        """Return the content hashes of the weights.

        Raises:
            ValueError: Weights are missing.
        """
        check_parts(config, cls.parts)
        return {
            "checkpoint": content_hash(_checkpoint(config)),
            "language_model": content_hash(str(_base_folder(config))),
            "clip": content_hash(config.weights["clip"], part_revision(config, "clip")),
        }

    @classmethod
    def answering(cls, config: BaselineConfig) -> dict[str, Any]:
        """Return the settings that decide its answers."""
        return {"option_scoring": config.option_scoring, "dtype": config.dtype}

    def _markup(self, question: str, *, has_video: bool) -> Markup:
        num_tokens = self.model.num_visual_tokens if has_video else 0
        return prompt_markup(question, num_tokens)

    def _answer_ids(self, markup: Markup, prompt: list[int], answer: str) -> list[int]:
        """Tokens of an answer after its prompt."""
        # In the whole text the blank is joined to the answer's first word.
        ids = self._encode(markup + Markup((" ", ""), (answer.strip(),)))
        if ids[: len(prompt)] != prompt:
            raise ValueError(
                f"the tokenizer of {self.tokenizer.name_or_path!r} joins the end of the prompt to "
                f"the answer {answer!r}; options cannot be scored with it"
            )
        return ids[len(prompt) :]

    def _encode(self, markup: Markup) -> list[int]:
        # Officially the tokenizer's post-processor puts the BOS before the text.
        return [int(self.tokenizer.bos_token_id), *encode_markup(self.tokenizer, markup)]


def prompt_markup(question: str, num_visual_tokens: int) -> Markup:
    """Put a question into the official markup, with the video after it.

    Args:
        question: What the user says; control tokens in it are spelled out.
        num_visual_tokens: Tokens of the video; 0 leaves its slot out.
    """
    slot = f"\n{START_TOKEN}{PATCH_TOKEN * num_visual_tokens}{END_TOKEN}"
    return Markup(
        (f"{SYSTEM_PROMPT} USER: ", f"{slot if num_visual_tokens else ''} ASSISTANT:"), (question,)
    )


def _base_folder(config: BaselineConfig) -> Path:
    revision = part_revision(config, "language_model")
    return local_folder(config.weights["language_model"], revision, _BASE_FILES)


def _checkpoint(config: BaselineConfig) -> str:
    return checkpoint_file(config.weights["checkpoint"], part_revision(config, "checkpoint"))
