"""Video-LLaMA as a baseline: its released weights, frames and prompts, our decoding.

Shapes: V tokens of a video, W width of the language model.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidreason.baselines.blip2_files import blip2_folder, blip2_hash
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frame_squares import clip_squares
from vidreason.baselines.frames import FrameRule, Frames, middle_frames
from vidreason.baselines.part_files import check_parts, checkpoint_fidelity, part_revision
from vidreason.baselines.spliced_prompts import SplicedPrompt, SplicedPromptSystem
from vidreason.baselines.system import Facts
from vidreason.baselines.video_llama.model import VideoLlamaVision, embed_prompt
from vidreason.baselines.video_llama.prompts import (
    ChatForm,
    Form,
    frames_message,
    load_chat_form,
)
from vidreason.baselines.video_llama.weights import BLIP2_PREFIXES, SOURCE, load_vision
from vidreason.perception.weights import local_folder
from vidreason.pretrained.frozen_parts import content_hash
from vidreason.reasoning.language_model import load_language_model, word_embedding_size
from vidreason.reasoning.reasoner_config import DecodingConfig, LanguageModelConfig

NUM_FRAMES = 8
"""demo_video.py by way of conversation_video.py: upload_video_without_audio."""

_FORM_OF_PART: dict[str, Form] = {"language_model": "llama-2", "vicuna": "vicuna"}
"""The part of ``weights`` that names the language model says its chat form as well."""
_LANGUAGE_MODEL_FILES = ("*.json", "*.model", "*.safetensors")


class VideoLlama(SplicedPromptSystem):
    """Video-LLaMA with its weights in memory; see :meth:`load`.

    Args:
        vision: The vision-language branch, in eval mode.
        language_model: Any causal one of the width of its tokens.
        chat: Tokenizer and chat form.
        decoding: How texts are generated.
        option_scoring: As in :class:`~vidreason.baselines.config.BaselineConfig`.
    """

    parts = ("checkpoint", "blip2")
    optional_parts = ("language_model", "vicuna")
    """One of the two is needed: its name says the chat form as well."""

    def __init__(
        self,
        vision: VideoLlamaVision,
        language_model: PreTrainedModel,
        chat: ChatForm,
        decoding: DecodingConfig,
        option_scoring: str = "letter",
    ) -> None:
        super().__init__(
            language_model, decoding, option_scoring, chat.stop_ids, chat.stop_sequences
        )
        self.vision = vision
        self.chat = chat

    def see(self, video: Frames) -> Tensor:
        """Return the tokens ``(V, W)`` of a video."""
        device = self.vision.projection.weight.device
        # One video: (T, 3, S, S) -> (1, T, 3, S, S) -> (V, W)
        pixels = clip_squares(video.pixels, self.vision.image_size)
        tokens: Tensor = self.vision(pixels[None].to(device))[0]
        return tokens

    def splice(self, video: Frames, tokens: Tensor | None, question: str) -> SplicedPrompt:
        """Return the prompt in the chat form, which says when each frame was taken."""
        message = None if tokens is None else frames_message(video.indices, video.rate)
        prompt = self.chat.prompt(question, message)
        words = self.language_model.get_input_embeddings()
        return SplicedPrompt(
            # Without a video there is no slot, and nothing to put in it.
            embed_prompt(words, prompt.ids, prompt.slot or 0, tokens),
            0 if tokens is None else len(tokens),
            partial(self.chat.answer_ids, prompt),
            self.chat.ending_ids,
        )

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of an answer."""
        return self.chat.text(ids)

    @classmethod
    def load(cls, config: BaselineConfig, decoding: DecodingConfig, device: torch.device) -> Self:
        """Load the released weights.

        ``weights`` names ``checkpoint``, a file; ``blip2``, such as
        ``Salesforce/blip2-flan-t5-xxl``; and ``language_model``, a Llama-2-chat, or ``vicuna`` in
        its stead, a Vicuna v0.

        Raises:
            ValueError: A part is missing, damaged or of another layout.
        """
        part = _language_model_part(config)
        check_parts(config, (*cls.parts, part))
        folder = local_folder(
            config.weights[part], part_revision(config, part), _LANGUAGE_MODEL_FILES
        )
        chat = load_chat_form(folder, _FORM_OF_PART[part])
        blip2 = blip2_folder(
            config.weights["blip2"], part_revision(config, "blip2"), BLIP2_PREFIXES
        )
        dtype: torch.dtype = getattr(torch, config.dtype)
        vision = load_vision(config.weights["checkpoint"], blip2, device, dtype)
        language_model = load_language_model(
            LanguageModelConfig(name_or_path=str(folder), dtype=config.dtype), device
        )
        # Each part loads by itself; whether they belong together shows here.
        _check_widths(config, part, vision, language_model)
        return cls(vision, language_model, chat, decoding, config.option_scoring)

    @classmethod
    def facts(cls, config: BaselineConfig) -> Facts:
        """Return the facts about the released model; a checkpoint of ours counts as re-trained."""
        deviations = [
            "vision-language branch alone, without sound",
            "frames are scaled after their conversion to RGB, not with it: values differ by 1 of "
            "255 on average, more at edges of colour",
            "texts are decoded as the evaluation says; officially they are drawn with top_p 0.9, "
            "temperature 1.0 and at most 300 tokens",
            "options are scored by likelihood; officially there are open questions alone",
            "long prompts are not cut at their beginning; officially prompt and answer together "
            "have 2000 tokens",
            f"vision tower and language model in {config.dtype}, Q-Formers in float32; officially "
            "float16 and bfloat16",
        ]
        if config.num_frames is not None:
            deviations.append(f"{config.num_frames} frames; officially {NUM_FRAMES}")
        return Facts(
            fidelity=checkpoint_fidelity(config),
            source=SOURCE,
            deviations=tuple(deviations),
            trained_on=(
                "WebVid-2M and LLaVA-CC3M captions",
                "instructions of MiniGPT-4, LLaVA and VideoChat",
            ),
            licence="research preview, non-commercial use only, after its README; LLaMA's terms",
        )

    @classmethod
    def frame_rule(cls, config: BaselineConfig) -> FrameRule:
        """Return the official rule, or the shared one where ``num_frames`` is given."""
        return even_frames if config.num_frames is None else middle_frames(config.num_frames)

    @classmethod
    def identity(cls, config: BaselineConfig) -> dict[str, str]:
        """Return the content hashes of the weights; of the BLIP-2, of what is used alone.

        Raises:
            ValueError: Weights are missing.
        """
        part = _language_model_part(config)
        check_parts(config, (*cls.parts, part))
        blip2 = blip2_folder(
            config.weights["blip2"], part_revision(config, "blip2"), BLIP2_PREFIXES
        )
        return {
            "checkpoint": content_hash(config.weights["checkpoint"]),
            "blip2": blip2_hash(blip2, BLIP2_PREFIXES),
            part: content_hash(config.weights[part], part_revision(config, part)),
        }

    @classmethod
    def answering(cls, config: BaselineConfig) -> dict[str, Any]:
        """Return the settings that decide its answers."""
        form = _FORM_OF_PART[_language_model_part(config)]
        return {"option_scoring": config.option_scoring, "dtype": config.dtype, "chat_form": form}


def even_frames(available: int) -> list[int]:
    """Return the first frames of 8 equal parts, or all of fewer frames.

    video_processor.py of the source: load_video, sampling uniform.
    """
    count = min(NUM_FRAMES, available)
    return [int(part * (available / count)) for part in range(count)]


def _language_model_part(config: BaselineConfig) -> str:
    """The part of ``weights`` that names the language model.

    Raises:
        ValueError: Both name one.
    """
    given = [part for part in _FORM_OF_PART if config.weights.get(part)]
    if len(given) > 1:
        raise ValueError(
            "baselines.weights of video_llama names a language_model, which is a Llama-2-chat, and "
            "a vicuna; leave one out"
        )
    return given[0] if given else "language_model"


def _check_widths(
    config: BaselineConfig, part: str, vision: VideoLlamaVision, language_model: PreTrainedModel
) -> None:
    width, _ = word_embedding_size(language_model)
    if vision.projection.out_features != width:
        raise ValueError(
            f"weights.checkpoint {config.weights['checkpoint']!r} gives tokens of width "
            f"{vision.projection.out_features}, but weights.{part} {config.weights[part]!r} has "
            f"word embeddings of width {width}; take the language model that it was trained with"
        )
    frames = config.num_frames or NUM_FRAMES
    if frames > vision.frame_positions.num_embeddings:
        raise ValueError(
            f"baselines.num_frames is {frames}, but weights.checkpoint "
            f"{config.weights['checkpoint']!r} has positions for "
            f"{vision.frame_positions.num_embeddings} frames"
        )
