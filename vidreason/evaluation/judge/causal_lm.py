"""A language model of transformers, in this process, as judge; greedy, so it says one thing."""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vidreason.endpoints.replies import ChatReply
from vidreason.evaluation.judge.judges import JudgeConfig, pinned_id
from vidreason.evaluation.judge.request import JudgeRequest
from vidreason.pretrained.frozen_parts import content_hash
from vidreason.reasoning.decoding import generate_ids
from vidreason.reasoning.language_model import load_language_model, load_tokenizer
from vidreason.reasoning.reasoner_config import DecodingConfig, LanguageModelConfig
from vidreason.reasoning.tokenization import (
    MARKUP_VERSION,
    answer_text,
    encode_prompt,
    stop_ids,
)


class CausalLMJudge:
    """Puts each request into the model's chat markup and continues it.

    Args:
        model: In evaluation mode.
        tokenizer: With a chat template.
        name: Names the weights, such as a path with their hash.
        max_new_tokens: Longest output.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        max_new_tokens: int,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._name = name
        self._max_new_tokens = max_new_tokens

    @property
    def judge_id(self) -> str:
        """The weights' name with a hash of what else decides the output."""
        parameters = {
            "max_new_tokens": self._max_new_tokens,
            "dtype": str(self._model.dtype),
            "chat_template": str(self._tokenizer.chat_template),
            "markup": MARKUP_VERSION,
        }
        return pinned_id(self._name, parameters)

    def prompt_ids(self, request: JudgeRequest) -> list[int]:
        """Token ids of a request, up to where the model's answer begins.

        Rules and data are one user's message, as not every chat template has a system's.
        """
        rules, data = (message["content"] for message in request.messages())
        return encode_prompt(self._tokenizer, f"{rules}\n\n{data}")

    @torch.inference_mode()
    def ask(self, request: JudgeRequest) -> ChatReply:
        """The model's continuation; of a request that does not fit, an output that says so."""
        ids = self.prompt_ids(request)
        # A request that is cut off would lose its rules or its data.
        limit = getattr(self._model.config, "max_position_embeddings", None)
        if limit is not None and len(ids) + self._max_new_tokens > limit:
            return ChatReply(
                text="",
                problem=f"the request has {len(ids)} tokens and judge.max_new_tokens is "
                f"{self._max_new_tokens}, but the model has {limit} positions",
            )
        prompt = torch.tensor([ids], device=self._model.device)
        decoding = DecodingConfig(strategy="greedy", max_new_tokens=self._max_new_tokens)
        output = generate_ids(
            self._model,
            self._model.get_input_embeddings()(prompt),
            torch.ones_like(prompt),
            decoding,
            stop_ids(self._tokenizer),
        )
        return ChatReply(text=answer_text(self._tokenizer, output[0]))

    def close(self) -> None:
        """Do nothing: the model goes with this object."""


def load_causal_lm_judge(config: JudgeConfig) -> CausalLMJudge:
    """Load the model that a configuration of kind ``causal_lm`` names.

    Raises:
        ValueError: There is no such model, or its weights are incomplete.
    """
    location = LanguageModelConfig(
        name_or_path=config.model, revision=config.revision, dtype=config.dtype
    )
    model = load_language_model(location, config.device)
    digest = content_hash(config.model, config.revision)
    return CausalLMJudge(
        model,
        load_tokenizer(location),
        name=f"{config.model}#{digest[:12]}",
        max_new_tokens=config.max_new_tokens,
    )
