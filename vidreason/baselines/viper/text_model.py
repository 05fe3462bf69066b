"""A causal language model that answers texts, and one that writes programs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.viper.api_prompt import filled_prompt
from vidreason.reasoning.decoding import generate_ids
from vidreason.reasoning.language_model import load_language_model, load_tokenizer
from vidreason.reasoning.reasoner_config import DecodingConfig, LanguageModelConfig
from vidreason.reasoning.tokenization import answer_text, check_texts, encode_prompt, stop_ids

PROGRAM_TOKENS = 512
"""Tokens of the longest program."""


class Writing(NamedTuple):
    """Text that a language model has generated."""

    text: str
    num_prompt_tokens: int
    num_generated_tokens: int


ProgramWriter = Callable[[str, Sequence[str]], Writing]
"""Writes a program, wrapped in anything, for a question and its possible answers."""


class TextModel:
    """A language model in its chat markup.

    Args:
        model: In eval mode.
        tokenizer: Its tokenizer.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model = model
        self._tokenizer = tokenizer

    @property
    def max_tokens(self) -> int | None:
        """Tokens of the longest text that the model knows; None where it does not say."""
        limit = getattr(self._model.config, "max_position_embeddings", None)
        return limit if isinstance(limit, int) else None

    def num_tokens(self, prompt: str) -> int:
        """Return the number of tokens of a prompt in chat markup."""
        return len(encode_prompt(self._tokenizer, prompt))

    @torch.inference_mode()
    def reply(self, prompt: str, decoding: DecodingConfig) -> Writing:
        """Answer a prompt; control tokens in it are plain text."""
        ids = encode_prompt(self._tokenizer, prompt)
        inputs = torch.tensor([ids], device=self._model.device)  # (1, T)
        embeddings = self._model.get_input_embeddings()(inputs)  # (1, T, D)
        mask = torch.ones_like(inputs)
        stops = stop_ids(self._tokenizer)
        [generated] = generate_ids(self._model, embeddings, mask, decoding, stops)
        return Writing(answer_text(self._tokenizer, generated), len(ids), len(generated))


def load_text_model(name: str, config: BaselineConfig, device: torch.device) -> TextModel:
    """Load a language model of transformers.

    Args:
        name: A folder or a repository of the Hub.
        config: Its revision and dtype.
        device: Where to.

    Raises:
        ValueError: It is missing, damaged or no causal language model.
    """
    # A folder has no revision: the one that is configured is of the parts on the Hub.
    revision = None if Path(name).is_dir() else config.revision
    source = LanguageModelConfig(name_or_path=name, revision=revision, dtype=config.dtype)
    tokenizer = load_tokenizer(source)
    model = load_language_model(source, device)
    embeddings = cast(nn.Embedding, model.get_input_embeddings())
    check_texts(tokenizer, embeddings.num_embeddings, None)
    return TextModel(model, tokenizer)


class PromptedWriter:
    """A :data:`ProgramWriter`: a language model with a prompt that describes the functions.

    Args:
        model: The language model.
        prompt: With the marks of :mod:`vidreason.baselines.viper.api_prompt`.
        decoding: How it generates; a program may have :data:`PROGRAM_TOKENS` in any case.

    Raises:
        ValueError: Prompt and program are too long for the language model.
    """

    def __init__(self, model: TextModel, prompt: str, decoding: DecodingConfig) -> None:
        self._model = model
        self._prompt = prompt
        self._decoding = replace(
            decoding, max_new_tokens=max(decoding.max_new_tokens, PROGRAM_TOKENS)
        )
        needed = model.num_tokens(filled_prompt(prompt, "", ())) + self._decoding.max_new_tokens
        if model.max_tokens is not None and needed > model.max_tokens:
            raise ValueError(
                f"the prompt and a program have {needed:,} tokens, and the model was trained with "
                f"at most {model.max_tokens:,}; name one with a longer context, or a shorter "
                "prompt as weights.prompt"
            )

    def __call__(self, question: str, options: Sequence[str]) -> Writing:
        """Write a program."""
        prompt = filled_prompt(self._prompt, question, options)
        return self._model.reply(prompt, self._decoding)
