"""A language model of transformers, in this process, as judge; greedy, so it says one thing."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vidreason.endpoints.replies import ChatReply
from vidreason.evaluation.judge.judges import JudgeConfig, pinned_id
from vidreason.evaluation.judge.request import JudgeRequest
from vidreason.pretrained.frozen_parts import content_hash
from vidreason.reasoning.language_model import load_language_model, load_tokenizer
from vidreason.reasoning.reasoner_config import DecodingConfig, LanguageModelConfig
from vidreason.reasoning.text_model import TextModel
from vidreason.reasoning.tokenization import MARKUP_VERSION, encode_prompt


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
        self._text_model = TextModel(model, tokenizer)
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
        return encode_prompt(self._tokenizer, _prompt(request))

    def ask(self, request: JudgeRequest) -> ChatReply:
        """The model's continuation; of a request that does not fit, an output that says so."""
        # A request that is cut off would lose its rules or its data.
        num_tokens, limit = len(self.prompt_ids(request)), self._text_model.max_tokens
        if limit is not None and num_tokens + self._max_new_tokens > limit:
            return ChatReply(
                text="",
                problem=f"the request has {num_tokens} tokens and judge.max_new_tokens is "
                f"{self._max_new_tokens}, but the model has {limit} positions",
            )
        decoding = DecodingConfig(strategy="greedy", max_new_tokens=self._max_new_tokens)
        return ChatReply(text=self._text_model.reply(_prompt(request), decoding).text)

    def close(self) -> None:
        """Do nothing: the model goes with this object."""


def _prompt(request: JudgeRequest) -> str:
    rules, data = (message["content"] for message in request.messages())
    return f"{rules}\n\n{data}"


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
