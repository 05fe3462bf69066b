"""Video-LLaMA as a baseline: its released weights, frames and prompts, our decoding.

The official protocol knows open questions alone. Options are scored here by the likelihood of
their letters or texts where the answer begins.

Shapes: L prompt positions with the video's, V tokens of a video, W width of the language model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from vidreason.baselines.blip2_files import (
    blip2_folder,
    blip2_hash,
    check_parts,
    is_converted,
    part_revision,
)
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frame_squares import clip_squares
from vidreason.baselines.frames import FrameRule, Frames, middle_frames
from vidreason.baselines.questions import letter_prompt, letters
from vidreason.baselines.system import Facts, System
from vidreason.baselines.video_llama.model import VideoLlamaVision, embed_prompt
from vidreason.baselines.video_llama.prompts import (
    ChatForm,
    Form,
    Prompt,
    frames_message,
    load_chat_form,
)
from vidreason.baselines.video_llama.weights import BLIP2_PREFIXES, SOURCE, load_vision
from vidreason.evaluation.answerer import Reply
from vidreason.example import Example
from vidreason.perception.weights import local_folder
from vidreason.pretrained.frozen_parts import content_hash
from vidreason.reasoning.decoding import generate_ids
from vidreason.reasoning.language_model import load_language_model, word_embedding_size
from vidreason.reasoning.log_likelihoods import text_log_likelihoods
from vidreason.reasoning.reasoner_config import DecodingConfig, LanguageModelConfig
from vidreason.reasoning.tokenization import EncodedText

NUM_FRAMES = 8
"""demo_video.py by way of conversation_video.py: upload_video_without_audio."""

_FORM_OF_PART: dict[str, Form] = {"language_model": "llama-2", "vicuna": "vicuna"}
"""The part of ``weights`` that names the language model says its chat form as well."""
_LANGUAGE_MODEL_FILES = ("*.json", "*.model", "*.safetensors")


class VideoLlama(System):
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
        self.vision = vision
        self.language_model = language_model
        self.chat = chat
        self._decoding = decoding
        self._by_letter = option_scoring == "letter"

    def answer(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Answer each prompt in words."""
        return self._generate(videos, [example.prompt for example in examples])

    def predict(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Predict next events in words, as the prompt asks for."""
        return self._generate(videos, [example.prompt for example in examples])

    def choose(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Name an option by its letter or its text, whichever the options are scored by."""
        return self._generate(videos, [self._choice_prompt(example) for example in examples])

    def log_likelihoods(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Score each option by its letter, or by its text with the end of the answer, per token.

        A prompt with its video is computed once for all of its options.
        """
        replies = []
        for video, tokens, example in zip(videos, self.see(videos), examples, strict=True):
            prompt = self._prompt(video, self._choice_prompt(example))
            texts = [self._option(prompt, option) for option in self._options(example)]
            # The prompt stands before each option as a video does: (1, L, W)
            embedded = self._embed(prompt, tokens)[None]
            sums = text_log_likelihoods(self.language_model, embedded, [0] * len(texts), texts)
            counts = [len(text.input_ids) for text in texts]
            replies.append(
                Reply(
                    log_likelihoods=tuple((sums / torch.tensor(counts)).tolist()),
                    token_counts=tuple(counts),
                    num_prompt_tokens=embedded.shape[1],
                )
            )
        return replies

    def see(self, videos: Sequence[Frames]) -> list[Tensor | None]:
        """Return the tokens ``(V, W)`` of each video, None without frames.

        A video that follows itself is seen once.
        """
        tokens: list[Tensor | None] = []
        device = self.vision.projection.weight.device
        for index, video in enumerate(videos):
            if index and videos[index - 1] is video:
                tokens.append(tokens[-1])
            elif len(video.pixels):
                # One video: (T, 3, S, S) -> (1, T, 3, S, S) -> (V, W)
                pixels = clip_squares(video.pixels, self.vision.image_size)
                tokens.append(self.vision(pixels[None].to(device))[0])
            else:
                tokens.append(None)
        return tokens

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
        _check_widths(config, part, vision, language_model)
        return cls(vision, language_model, chat, decoding, config.option_scoring)

    @classmethod
    def facts(cls, config: BaselineConfig) -> Facts:
        """Return the facts about the released model; a checkpoint of ours counts as re-trained."""
        checkpoint = config.weights.get("checkpoint", "")
        ours = checkpoint.endswith(".safetensors") and Path(checkpoint).is_file()
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
            fidelity="re-trained" if ours and not is_converted(checkpoint) else "official-weights",
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

    def _generate(self, videos: Sequence[Frames], questions: Sequence[str]) -> list[Reply]:
        rows = [
            self._embed(self._prompt(video, question), tokens)
            for video, tokens, question in zip(videos, self.see(videos), questions, strict=True)
        ]
        # Prompts end in one column, from where all rows go on: (B, longest L, W), (B, longest L)
        embeddings = pad_sequence(rows, batch_first=True, padding_side="left")
        ones = [torch.ones(len(row), dtype=torch.int64, device=row.device) for row in rows]
        mask = pad_sequence(ones, batch_first=True, padding_side="left")
        answers = generate_ids(
            self.language_model,
            embeddings,
            mask,
            self._decoding,
            self.chat.stop_ids,
            self.chat.stop_sequences,
        )
        return [
            Reply(
                output=self.chat.text(answer),
                num_prompt_tokens=len(row),
                num_generated_tokens=len(answer),
            )
            for row, answer in zip(rows, answers, strict=True)
        ]

    def _prompt(self, video: Frames, question: str) -> Prompt:
        shown = len(video.pixels) > 0
        return self.chat.prompt(
            question, frames_message(video.indices, video.rate) if shown else None
        )

    def _embed(self, prompt: Prompt, tokens: Tensor | None) -> Tensor:
        words = self.language_model.get_input_embeddings()
        return embed_prompt(words, prompt.ids, prompt.slot or 0, tokens)

    def _choice_prompt(self, example: Example) -> str:
        return letter_prompt(example) if self._by_letter else example.prompt

    def _options(self, example: Example) -> Sequence[str]:
        return letters(example) if self._by_letter else example.options

    def _option(self, prompt: Prompt, option: str) -> EncodedText:
        ids = self.chat.answer_ids(prompt, option)
        ids = ids if self._by_letter else ids + self.chat.ending_ids
        return EncodedText(input_ids=ids, labels=ids)


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
