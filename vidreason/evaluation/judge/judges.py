"""The protocol of judges, and the configuration that names one."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, Protocol, TypeVar

from vidreason.added_parts import check_part
from vidreason.endpoints.cache import ReplyCache
from vidreason.endpoints.config import EndpointConfig, check_request_fields
from vidreason.endpoints.replies import ChatReply
from vidreason.evaluation.judge.request import JudgeRequest, as_json
from vidreason.evaluation.judge.schema import InvalidVerdictError, why_invalid
from vidreason.ranges import check_ranges

T = TypeVar("T")

JUDGES = ("openai", "causal_lm", "heuristic")
"""Kinds of judges of this project."""
JUDGE_GROUP = "vidreason.judges"
"""Group of the entry points by which installed packages add judges: classes with the attributes of
:class:`Judge`, made with a :class:`JudgeConfig`. They are asked by one thread."""


class Judge(Protocol):
    """Answers requests with text; that the text is a verdict is checked elsewhere."""

    @property
    def judge_id(self) -> str:
        """Names the judge so that two numbers of one id may be compared; see :func:`pinned_id`."""

    def ask(self, request: JudgeRequest) -> ChatReply:
        """The judge's output, as it is.

        Raises:
            EndpointUnavailableError: The judge gives no output; another try may.
        """

    def close(self) -> None:
        """End the requests of other threads that are under way; the judge is not asked again."""


def ask_for_verdict(
    judge: Judge,
    cache: ReplyCache,
    request: JudgeRequest,
    read: Callable[[str, JudgeRequest], T],
) -> tuple[str, T | None, str]:
    """Take the output that ``judge`` gave, or gives now, and read the verdict.

    Returns:
        The output; the verdict, None where it is none; why it is none, else empty.

    Raises:
        EndpointUnavailableError: As :meth:`Judge.ask`; nothing is kept then.
    """
    # Kept as it is, before it is read: an output that is no verdict is not asked for again.
    reply = cache.reply(judge.judge_id, as_json(request), lambda: judge.ask(request))
    try:
        return reply.text, read(reply.text, request), ""
    except InvalidVerdictError as error:
        return reply.text, None, why_invalid(error, reply)


@dataclass(kw_only=True)
class JudgeConfig(EndpointConfig):
    """Who judges. The fields of the endpoint are for ``kind="openai"``."""

    kind: str = "openai"
    """``openai``: any endpoint of the chat-completions form. ``causal_lm``: a language model of
    transformers in this process. ``heuristic``: counts words, for tests; its numbers mean nothing.
    Further ones are entry points of the group ``vidreason.judges`` that an installed package
    declares, or ``package.module:object``."""
    model: str = ""
    """The endpoint's model id, dated where the service has dates; or a local folder or repository
    of a language model. Judges drift: the same answers moved from 35 to 43 when a service renewed
    its model."""
    revision: str | None = None
    """``causal_lm``: commit of the repository on the Hub."""
    output_format: Literal["json_schema", "json_object", "text"] = "json_schema"
    """``openai``: how much the endpoint holds the model to the schema."""
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
        try:
            super().__post_init__()
        except ValueError as error:
            # The endpoint's fields are the judge's here.
            raise ValueError(f"judge.{error}") from error
        check_part("judge.kind", self.kind, JUDGE_GROUP, JUDGES)
        check_ranges("judge", self, max_new_tokens=(1, inf))
        check_request_fields("judge", self.request_fields)


def pinned_id(name: str, parameters: Mapping[str, Any]) -> str:
    """``name`` with a hash of all parameters that can change what the judge says."""
    digest = hashlib.sha256(json.dumps(dict(parameters), sort_keys=True).encode()).hexdigest()
    return f"{name}@{digest[:12]}"
