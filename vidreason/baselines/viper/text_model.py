"""A causal language model of a configuration, and one that writes programs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.viper.api_prompt import filled_prompt
from vidreason.reasoning.language_model import load_language_model, load_tokenizer
from vidreason.reasoning.reasoner_config import DecodingConfig, LanguageModelConfig
from vidreason.reasoning.text_model import TextModel, Writing
from vidreason.reasoning.tokenization import check_texts

PROGRAM_TOKENS = 512
"""Tokens of the longest program."""


ProgramWriter = Callable[[str, Sequence[str]], Writing]
"""Writes a program, wrapped in anything, for a question and its possible answers."""


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
        # Without a question and its answers, which come on top.
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
