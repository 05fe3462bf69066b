"""Any endpoint of the chat-completions form as a baseline: frames and a question in, a text out.

A reply is the system's answer, whatever its text. A request that the endpoint refuses for what is
in it, as too long or not allowed, has an empty answer, which counts as invalid. An endpoint that
cannot be had ends the run: what was answered is kept, and no reply is paid for twice.

Option likelihoods are not among the capabilities: servers of this form may leave the field
``logprobs`` out of account without a word (``transformers serve`` does, with status 200), and
nothing but a paid request can tell. A server of a model without vision may leave pictures out in
the same way; the blind control tells then, as its answers are the same.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self
from urllib.parse import urlsplit

import torch
from typing_extensions import override

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frame_messages import (
    FrameRequest,
    encoding,
    endpoint_problems,
    frame_parts,
    frames_shown,
    is_refused,
    text_request,
    unseen_video,
    with_frames,
)
from vidreason.baselines.frames import FrameRule, Frames, middle_frames
from vidreason.baselines.questions import letter_prompt
from vidreason.baselines.system import Facts, System
from vidreason.endpoints.budget import RequestBudget
from vidreason.endpoints.cache import ReplyCache, request_key
from vidreason.endpoints.parallel import in_parallel
from vidreason.endpoints.replies import ChatReply
from vidreason.evaluation.answerer import Reply
from vidreason.example import Example
from vidreason.pretrained.frozen_parts import cache_folder
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.secrets import printable

NUM_FRAMES = 8
"""Frames that are sent unless the configuration says how many."""
NUM_PARALLEL = 8
"""Requests at a time."""
MAX_OUTPUT_CHARS = 65_536
"""Longest output that a row keeps, of services that do not hold to the limit of tokens."""
MAX_REFUSED_AT_FIRST = 32
"""Requests that may be refused before the first one is answered; then there is a common cause."""

_LOG = logging.getLogger(__name__)


class Endpoint(System):
    """A model that is served elsewhere, by the id ``weights["model"]``.

    Args:
        config: Of kind ``endpoint``.
        decoding: Sent along as the request's fields.

    Raises:
        ValueError: No model is named, the key is not in the environment, the file of replies
            cannot be used, or the package ``openai`` is not installed.
    """

    takes_turns = True

    def __init__(self, config: BaselineConfig, decoding: DecodingConfig) -> None:
        self._config = config
        self._model = _model(config)
        self._fields = _fields(config, decoding)
        # Known before the first video is decoded; neither is held here.
        config.endpoint.key()
        config.endpoint.proxy()
        self._cache = ReplyCache(config.replies or cache_folder() / "replies.sqlite")
        # Everything else that can change a reply is in the request.
        self._model_id = f"{self._model} at {config.endpoint.base_url}"
        self._budget = RequestBudget(
            self._cache, self._model_id, config.max_requests, "baselines: max_requests"
        )
        # Pictures are taken by all; for videos it is found out with the first batch that has one.
        self._takes_video = config.frames_as == "images"
        self._num_answered = self._num_refused = 0
        from vidreason.endpoints.client import ChatEndpoint  # needs a package of an extra

        self._connect = ChatEndpoint

    @override
    def answer(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        return self._replies(videos, examples)

    predict = answer  # the prompt says in which form

    @override
    def choose(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        if self._config.option_scoring == "letter":
            examples = [replace(one, prompt=letter_prompt(one)) for one in examples]
        return self._replies(videos, examples)

    @classmethod
    @override
    def load(cls, config: BaselineConfig, decoding: DecodingConfig, device: torch.device) -> Self:
        return cls(config, decoding)

    @classmethod
    @override
    def problems(cls, config: BaselineConfig, decoding: DecodingConfig) -> list[str]:
        reasons = endpoint_problems(config.endpoint)
        try:
            _fields(config, decoding)
        except ValueError as error:
            reasons.append(str(error))
        return reasons

    @classmethod
    @override
    def identity(cls, config: BaselineConfig) -> dict[str, str]:
        return {"model": _model(config), "base_url": config.endpoint.base_url}

    @classmethod
    @override
    def facts(cls, config: BaselineConfig) -> Facts:
        return Facts(
            fidelity="endpoint",
            source=f"{_model(config)} at {_host(config)}",
            deviations=("the service may renew its model under the same id",),
        )

    @classmethod
    @override
    def frame_rule(cls, config: BaselineConfig) -> FrameRule:
        return middle_frames(config.num_frames or NUM_FRAMES)

    @classmethod
    @override
    def answering(cls, config: BaselineConfig) -> dict[str, Any]:
        return {
            "model": _model(config),
            "host": _host(config),
            "frames_as": config.frames_as,
            "num_frames": config.num_frames or NUM_FRAMES,
            "max_pixels": config.max_pixels,
            **encoding(config.frames_as),
            "option_scoring": config.option_scoring,
            "request_fields": dict(config.request_fields),
        }

    def _replies(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Ask all questions of a batch, in parallel, each different one once."""
        requests = self._requests(videos, examples)
        keys = [request_key(self._model_id, request.shown) for request in requests]
        different = dict(zip(keys, requests, strict=True))
        with self._connect(self._config.endpoint, self._budget) as client:

            def send(request: FrameRequest) -> ChatReply:
                return self._cache.reply(
                    self._model_id,
                    request.shown,
                    lambda: client.complete(self._model, request.messages, self._fields),
                )

            if not self._takes_video:
                self._check_video(send, videos, examples, requests)
            replies = in_parallel(send, different.values(), NUM_PARALLEL, client.close)
        refused = [one.problem for one in replies if is_refused(one)]
        if refused:
            _LOG.warning(
                "%s: %d of %d requests have no answer, such as one of which it says: %s",
                *(self._model_id, len(refused), len(replies), printable(refused[0])),
            )
        self._check_refusals(refused, len(replies))
        # Each reply for all requests that are alike.
        by_key = dict(zip(different, replies, strict=True))
        return [_as_reply(by_key[key]) for key in keys]

    def _check_refusals(self, refused: Sequence[str], num_replies: int) -> None:
        """Make sure that the endpoint answers some request at all.

        Raises:
            ValueError: It refused the first :data:`MAX_REFUSED_AT_FIRST`, each for what is in it.
        """
        self._num_refused += len(refused)
        self._num_answered += num_replies - len(refused)
        if not self._num_answered and self._num_refused >= MAX_REFUSED_AT_FIRST:
            raise ValueError(
                f"baselines: {self._model_id} answered none of its first {self._num_refused} "
                f"requests; of the last it says: {printable(refused[-1])}; change what all have in "
                "common, such as num_frames, max_pixels or the model, and take another run_dir"
            )

    def _requests(
        self, videos: Sequence[Frames], examples: Sequence[Example]
    ) -> list[FrameRequest]:
        parts: list[dict[str, Any]] = []
        shown: dict[str, Any] = {}
        previous: Frames | None = None
        sent = self._config.frames_as, self._config.max_pixels
        requests = []
        for video, example in zip(videos, examples, strict=True):
            blind = self._blind_request(example)
            if not video.seconds:
                requests.append(blind)
                continue
            # Questions about one video follow each other: it is encoded once.
            if video is not previous:
                parts, shown = frame_parts(video, *sent), frames_shown(video, *sent)
                previous = video
            requests.append(with_frames(blind, parts, shown))
        return requests

    def _blind_request(self, example: Example) -> FrameRequest:
        return text_request(example.prompt, self._fields, example.earlier_turns)

    def _check_video(
        self,
        send: Callable[[FrameRequest], ChatReply],
        videos: Sequence[Frames],
        examples: Sequence[Example],
        requests: Sequence[FrameRequest],
    ) -> None:
        """Make sure that the endpoint looks at videos, by the tokens that it counts for one.

        The second request, which has no video, is that of the blind control: it is paid for once.

        Raises:
            ValueError: It does not, or it counts no tokens.
        """
        for video, example, request in zip(videos, examples, requests, strict=True):
            if not video.seconds:
                continue
            shown = send(request)
            if is_refused(shown):
                continue  # a refusal tells nothing of what is looked at
            blind = send(self._blind_request(example))
            if problem := unseen_video(self._model_id, shown, blind):
                raise ValueError(f"baselines: {problem}")
            self._takes_video = True
            return


def _as_reply(reply: ChatReply) -> Reply:
    """Return the output, of a refusal an empty one; the row says why, and where one was cut."""
    return Reply(
        output="" if is_refused(reply) else reply.text[:MAX_OUTPUT_CHARS],
        num_prompt_tokens=reply.num_prompt_tokens,
        num_generated_tokens=reply.num_generated_tokens,
        record={"problem": reply.problem} if reply.problem else {},
    )


def _fields(config: BaselineConfig, decoding: DecodingConfig) -> dict[str, Any]:
    """Return the fields of a request that say how texts are generated.

    Raises:
        ValueError: The form has no field for it.
    """
    fields: dict[str, Any] = {"max_tokens": decoding.max_new_tokens}
    if decoding.strategy == "greedy":
        fields["temperature"] = 0
    elif decoding.strategy == "nucleus":
        fields |= {"temperature": decoding.temperature, "top_p": decoding.top_p}
        fields["seed"] = decoding.seed
    else:
        raise ValueError(
            f"decoding.strategy is {decoding.strategy!r}, and endpoints have no such search; set "
            "greedy or nucleus"
        )
    fields |= config.request_fields
    # A null of the configuration also leaves out a field that is set here.
    return {name: value for name, value in fields.items() if value is not None}


def _model(config: BaselineConfig) -> str:
    model = config.weights.get("model", "")
    if not model:
        raise ValueError(
            "baselines: weights has no model; name the id that "
            f"{config.endpoint.base_url} serves it by: weights={{model: ID}}"
        )
    return model


def _host(config: BaselineConfig) -> str:
    return urlsplit(config.endpoint.base_url).netloc
