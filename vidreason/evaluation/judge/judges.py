"""What a judge is, and which one a configuration names."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from vidreason.evaluation.judge.request import JudgeRequest


class Judge(Protocol):
    """Answers requests with text; that the text is a verdict is checked elsewhere."""

    @property
    def judge_id(self) -> str:
        """Names the judge so that two numbers of one id may be compared; see :func:`pinned_id`."""

    def ask(self, request: JudgeRequest) -> str:
        """The judge's output, as it is.

        Raises:
            JudgeUnavailableError: The judge gives no output; another try may.
        """


class JudgeUnavailableError(RuntimeError):
    """A judge could not be reached, or refused to answer for reasons of its service."""


@dataclass(kw_only=True)
class JudgeConfig:
    """Who judges."""

    kind: Literal["openai", "causal_lm", "heuristic"] = "openai"
    """``openai``: any endpoint of the chat-completions form. ``causal_lm``: a language model of
    transformers in this process. ``heuristic``: counts words, for tests; its numbers mean
    nothing."""
    model: str = ""
    """The endpoint's model id, dated where the service has dates; or a local folder or repository
    of a language model. Judges drift: the same answers moved from 35 to 43 when a service renewed
    its model."""
    revision: str | None = None
    """``causal_lm``: commit of the repository on the Hub."""
    base_url: str = "https://api.openai.com/v1"
    """``openai``: where ``/chat/completions`` is, such as ``http://localhost:8000/v1`` of vLLM."""
    api_key_variable: str = "OPENAI_API_KEY"
    """``openai``: the environment variable that holds the key; empty for none."""
    output_format: Literal["json_schema", "json_object", "text"] = "json_schema"
    """``openai``: how much the endpoint holds the model to the schema."""
    timeout_seconds: float = 60.0
    max_attempts: int = 5
    """``openai``: tries of one request; waits double from a second on."""
    max_new_tokens: int = 800
    seed: int = 0
    """``openai``: sent along; services promise little about it. ``causal_lm`` is greedy."""
    request_fields: dict[str, Any] = field(default_factory=dict)
    """``openai``: fields of the request's body to set, or to leave out where null, such as
    ``{max_tokens: null, max_completion_tokens: 800, temperature: null}`` for models that refuse the
    usual ones. Part of the judge's id."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """``causal_lm``: of the weights."""
    device: str = "cpu"
    """``causal_lm``: where the model runs."""

    def __post_init__(self) -> None:
        """Check the endpoint and ranges."""
        if self.kind == "openai" and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(
                f"judge.base_url is {self.base_url!r}; it begins with http:// or https://"
            )
        for name in ("timeout_seconds", "max_attempts", "max_new_tokens"):
            if getattr(self, name) <= 0:
                raise ValueError(f"judge.{name} is {getattr(self, name)}; it must be above 0")


def pinned_id(name: str, parameters: Mapping[str, Any]) -> str:
    """``name`` with a hash of all parameters that can change what the judge says."""
    digest = hashlib.sha256(json.dumps(dict(parameters), sort_keys=True).encode()).hexdigest()
    return f"{name}@{digest[:12]}"


def build_judge(config: JudgeConfig) -> Judge:
    """The judge that a configuration names.

    Raises:
        ValueError: No model is named, or the key or the model is not there.
    """
    if config.kind == "heuristic":
        from vidreason.evaluation.judge.heuristic import HeuristicJudge

        return HeuristicJudge()
    if not config.model:
        raise ValueError(
            f"judge.model is empty; name the model that judges, as judge.kind is {config.kind!r}"
        )
    if config.kind == "openai":
        from vidreason.evaluation.judge.openai_compatible import OpenAICompatibleJudge

        return OpenAICompatibleJudge(config)
    from vidreason.evaluation.judge.causal_lm import load_causal_lm_judge

    return load_causal_lm_judge(config)
