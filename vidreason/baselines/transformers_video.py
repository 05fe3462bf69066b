"""Video language models of transformers as baselines: one way to ask all of them.

The model and its processor are those of AutoModelForImageTextToText and AutoProcessor. It is shown
our frames with their times, and a question in its own chat markup.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameRule, Frames, middle_frames
from vidreason.baselines.option_scores import (
    first_token_logits,
    letter_tokens,
    text_log_likelihoods,
)
from vidreason.baselines.questions import letter_prompt, letters
from vidreason.baselines.released_video_models import facts_of
from vidreason.baselines.system import Facts, System
from vidreason.baselines.video_inputs import PromptRow, VideoInputs, batches_of, joined
from vidreason.baselines.video_model_folder import (
    VideoModel,
    identity_of,
    load_video_model,
    model_name,
)
from vidreason.baselines.video_turns import chat_form, end_of_turn_id
from vidreason.evaluation.answerer import Reply
from vidreason.example import Example
from vidreason.reasoning.decoding import before_stop, continued
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.reasoning.tokenization import answer_text

NUM_FRAMES = 16
"""Frames where the configuration gives no number; the models' authors have no rule in common."""
INPUT_VERSION = 1
"""Raise it with any change after which some questions have other inputs."""

_LOG = logging.getLogger(__name__)


class TransformersVideo(System):
    """A video language model of transformers.

    Args:
        parts: Model and processor.
        config: As they were loaded.
        decoding: How texts are generated.

    Raises:
        ValueError: Its chat template cannot be used for questions about videos, or ``max_pixels``
            is less than a visual token covers.
    """

    def __init__(self, parts: VideoModel, config: BaselineConfig, decoding: DecodingConfig) -> None:
        self._where = f"baselines.weights.model: {model_name(config)!r}"
        self._config = config
        self._decoding = decoding
        self._model = parts.model
        self._tokenizer = parts.processor.tokenizer
        form = chat_form(parts.template, self._tokenizer, self._where)
        self._end_of_turn = end_of_turn_id(form.with_video, self._tokenizer, self._where)
        ends = [self._end_of_turn, self._tokenizer.eos_token_id, *parts.stop_ids]
        # Each once; an end that tokenizer or folder do not name is None.
        self._stop_ids = list(dict.fromkeys(i for i in ends if isinstance(i, int)))
        pad_id = self._tokenizer.pad_token_id
        # Padding is masked: any token will do where the tokenizer has none for it.
        self._pad_id: int = self._end_of_turn if pad_id is None else pad_id
        # Tokens of the longest text that it was trained with; None where its folder says none.
        self._max_tokens = getattr(
            self._model.config.get_text_config(), "max_position_embeddings", None
        )
        self._inputs = VideoInputs(
            parts.processor, form, parts.placeholders, config.max_pixels, self._where
        )

    @classmethod
    def load(cls, config: BaselineConfig, decoding: DecodingConfig, device: torch.device) -> Self:
        """Load the weights.

        Raises:
            ValueError: They are missing, damaged or of another layout.
        """
        return cls(load_video_model(config, device), config, decoding)

    @classmethod
    def facts(cls, config: BaselineConfig) -> Facts:
        """Return the facts about the model, without loading it."""
        return facts_of(model_name(config))

    @classmethod
    def frame_rule(cls, config: BaselineConfig) -> FrameRule:
        """Return the rule for the middle frames of equal parts of the video."""
        return middle_frames(config.num_frames or NUM_FRAMES)

    @classmethod
    def identity(cls, config: BaselineConfig) -> dict[str, str]:
        """Return hashes of its weights, and of the files that its inputs are made with.

        Raises:
            ValueError: They are missing.
        """
        return identity_of(config)

    @classmethod
    def answering(cls, config: BaselineConfig) -> dict[str, Any]:
        """Return the settings that decide the inputs, the number of visual tokens among them."""
        return {
            "inputs": INPUT_VERSION,
            "num_frames": config.num_frames or NUM_FRAMES,
            # Of models that make more tokens of larger frames; others have one size of frame.
            "max_pixels": config.max_pixels,
            "resize": "antialiased-bicubic to whole tokens, or the processor's fixed size",
            "frame_times": "of the frames shown",
            "option_scoring": config.option_scoring,
            "dtype": config.dtype,
        }

    def answer(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Answer each prompt in words."""
        return self._generated(videos, [example.prompt for example in examples])

    predict = answer  # the prompt says in which form

    def choose(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Name one of the options of each question, by its letter or by its text."""
        return self._generated(videos, [self._question(example) for example in examples])

    def log_likelihoods(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Score the options of each question, as ``option_scoring`` says.

        ``letter``: the log-softmax over the options' letters, as first token of an answer.
        ``text``: the mean log-likelihood of the tokens of an option's text, end of turn included.
        """
        rows = self._rows(videos, [self._question(example) for example in examples])
        if self._config.option_scoring == "text":
            return [
                self._scored_by_text(row, example)
                for row, example in zip(rows, examples, strict=True)
            ]
        return self._scored_by_letter(rows, examples)

    def _question(self, example: Example) -> str:
        return letter_prompt(example) if self._config.option_scoring == "letter" else example.prompt

    def _rows(self, videos: Sequence[Frames], questions: Sequence[str]) -> list[PromptRow]:
        rows = [
            self._inputs.row(frames, question)
            for frames, question in zip(videos, questions, strict=True)
        ]
        longest = max((len(row.ids) for row in rows), default=0)
        if self._max_tokens is not None and longest > self._max_tokens:
            # Nothing else says so, and the answers may be worth nothing. A folder may scale its
            # positions, so that it is no error.
            _LOG.warning(
                "%s: a question has %d tokens with its video, and the model's configuration names "
                "at most %d; lower num_frames or max_pixels",
                *(self._where, longest, self._max_tokens),
            )
            self._max_tokens = None  # once is enough
        return rows

    def _generated(self, videos: Sequence[Frames], questions: Sequence[str]) -> list[Reply]:
        rows = self._rows(videos, questions)
        replies = [_counted(row) for row in rows]
        for indices, batch in self._batches(rows):
            length = batch["input_ids"].shape[1]  # of the padded prompts
            for index, ids in zip(
                indices,
                continued(self._model, batch, self._decoding, self._stop_ids),
                strict=True,
            ):
                # Prompt and answer are returned together.
                new = before_stop(ids[length:], self._stop_ids)
                output = answer_text(self._tokenizer, new)
                replies[index] = replace(
                    replies[index], output=output, num_generated_tokens=len(new)
                )
        return replies

    def _scored_by_letter(
        self, rows: Sequence[PromptRow], examples: Sequence[Example]
    ) -> list[Reply]:
        tokens: list[list[int]] = []
        scored: list[PromptRow] = []
        for row, example in zip(rows, examples, strict=True):
            answers = [self._inputs.continuation(row, letter) for letter in letters(example)]
            shared, of_letters = letter_tokens(answers, self._where)
            # With what all letters begin with in the prompt, the next token tells them apart.
            tokens.append(of_letters)
            scored.append(row.extended(shared))
        replies = [_counted(row) for row in rows]
        for indices, batch in self._batches(scored):
            logits = first_token_logits(self._model, batch, self._pad_id)
            for index, of_question in zip(indices, logits, strict=True):
                scores = of_question[tokens[index]].log_softmax(-1).tolist()
                replies[index] = replace(
                    replies[index],
                    log_likelihoods=tuple(scores),
                    token_counts=(1,) * len(scores),
                )
        return replies

    def _scored_by_text(self, row: PromptRow, example: Example) -> Reply:
        options = [
            [*self._inputs.continuation(row, option), self._end_of_turn]
            for option in example.options
        ]
        # One prompt at a time: its keys and values serve all of its options.
        totals = text_log_likelihoods(self._model, self._joined([row]), options)
        counts = [len(ids) for ids in options]
        return replace(
            _counted(row),
            log_likelihoods=tuple(total / n for total, n in zip(totals, counts, strict=True)),
            token_counts=tuple(counts),
        )

    def _batches(
        self, rows: Sequence[PromptRow]
    ) -> Iterator[tuple[list[int], Mapping[str, torch.Tensor]]]:
        for indices in batches_of(rows):
            yield indices, self._joined([rows[index] for index in indices])

    def _joined(self, rows: Sequence[PromptRow]) -> Mapping[str, torch.Tensor]:
        return joined(rows, self._pad_id, self._model.device, self._model.dtype)


def _counted(row: PromptRow) -> Reply:
    return Reply(
        num_prompt_tokens=len(row.ids) - row.num_visual_tokens,
        num_visual_tokens=row.num_visual_tokens,
    )
