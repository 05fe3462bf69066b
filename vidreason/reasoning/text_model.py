"""A causal language model that answers texts in its chat markup: judges, programs, questions."""

from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vidreason.reasoning.decoding import generate_ids
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.reasoning.tokenization import answer_text, encode_prompt, stop_ids


class Writing(NamedTuple):
    """Text that a language model has generated."""

    text: str
    num_prompt_tokens: int
    num_generated_tokens: int


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
