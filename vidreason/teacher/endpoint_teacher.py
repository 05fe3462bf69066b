"""A teacher that is served elsewhere: any endpoint of the chat-completions form.

It is shown a clip's frames as baselines are. Its replies are kept in a :class:`ReplyCache`, so that
none is paid for twice; whether it honours a schema is found out with the first request.
"""

import logging
import threading
from typing import Any

from vidreason.baselines.encoded_frames import sent_size
from vidreason.baselines.frame_messages import (
    FrameRequest,
    encoding,
    frame_parts,
    frames_shown,
    is_refused,
    text_request,
    unseen_video,
)
from vidreason.baselines.frames import FrameRule, Frames, middle_frames
from vidreason.endpoints.budget import RequestBudget
from vidreason.endpoints.cache import ReplyCache, request_key
from vidreason.endpoints.client import ChatEndpoint
from vidreason.endpoints.errors import EndpointRefusedError, EndpointUnavailableError
from vidreason.endpoints.messages import encodable, plain_messages, text_part
from vidreason.endpoints.replies import ChatReply
from vidreason.teacher.config import TeacherConfig
from vidreason.teacher.prompt import ANSWER_FORMAT, answer_form_text, full_prompt, prompt_hash
from vidreason.teacher.protocol import TeacherRequest
from vidreason.teacher.provenance import TeacherProvenance
from vidreason.teacher.schema_probe import RESPONSE_FORMAT, probe_schema, stored_probe

NUM_PARALLEL = 64
"""Requests at a time that a service is taken to work on; a run sets its own limit below."""

_LOG = logging.getLogger(__name__)


class EndpointTeacher:
    """A model that is served elsewhere, by the id ``model``.

    Nothing is sent, and no key is needed, before the first :meth:`complete`.

    Args:
        config: Of kind ``endpoint``.
        cache: Keeps the replies.
        budget: Counts and limits the requests; None for no limit.

    Raises:
        ValueError: No model is named.
    """

    def __init__(
        self, config: TeacherConfig, cache: ReplyCache, budget: RequestBudget | None = None
    ) -> None:
        self._config = config
        self._cache = cache
        self._budget = budget
        self.teacher_id = endpoint_teacher_id(config)
        self.num_parallel = NUM_PARALLEL
        self._fields = request_fields(config)
        # Pictures need no proof that they are looked at; a video does, with its first reply.
        self._takes_video = config.frames_as == "images"
        self._client: ChatEndpoint | None = None
        self._is_closed = False
        # Two locks: close() must not wait for a probe's reply.
        self._connecting = threading.Lock()
        # One thread at a time finds out what is found out once and paid for.
        self._checking = threading.Lock()
        self._format: dict[str, Any] | None = None

    def frame_rule(self) -> FrameRule:
        """Return the rule for the middle frames of equal parts of a clip."""
        return middle_frames(self._config.num_frames)

    def request(self, frames: Frames) -> TeacherRequest:
        """Make the request for a clip's frames; costs nothing and is the same every time.

        Raises:
            ValueError: It is larger than any that is sent.
        """
        config = self._config
        prompt = full_prompt(
            config.prompt, config.answer_form, frames.seconds, frames.duration_seconds
        )
        shown = text_request(prompt, self._fields).shown
        # Whether it is sent as well is decided once for all replies of a cache.
        shown["schema"] = ANSWER_FORMAT if self._may_send_schema() else None
        shown |= frames_shown(frames, config.frames_as, config.max_pixels)
        parts = frame_parts(frames, config.frames_as, config.max_pixels)
        content = [*parts, text_part(prompt)]
        plain_messages([{"role": "user", "content": content}])  # raises where it is too large
        # (T, 3, H, W)
        num_frames, _, height, width = frames.pixels.shape
        columns, rows = sent_size(width, height, config.max_pixels)
        return TeacherRequest(
            key=request_key(self.teacher_id, shown),
            content=FrameRequest(content, shown),
            num_images=0 if config.frames_as == "video" else num_frames,
            num_image_pixels=num_frames * columns * rows,
            num_text_chars=sum(len(part.get("text", "")) for part in content),
        )

    def complete(self, request: TeacherRequest) -> ChatReply:
        """Return the stored reply to a request; without one, send it and store the reply.

        Raises:
            EndpointUnavailableError: It gave no reply of the right form.
            EndpointRefusedError: It refuses all requests, such as for a wrong key; or does not look
                at videos.
            BudgetSpentError: No further request may be paid for.
        """
        reply = self._send(request.content)
        if not self._takes_video and not is_refused(reply):
            # Nobody gets an answer about a video before it is known that one was looked at.
            fields = self._sent_fields()  # before the lock, which it takes itself
            with self._checking:
                self._check_video(request.content, reply, fields)
        return reply

    def prepare(self, request: TeacherRequest) -> None:
        """Find out all that is found out with a first request, before many are sent in a batch.

        Raises:
            EndpointUnavailableError: As :meth:`complete`.
            EndpointRefusedError: As :meth:`complete`.
            BudgetSpentError: As :meth:`complete`.
        """
        if self._takes_video:
            self._sent_fields()
        else:
            self.complete(request)

    def body(self, request: TeacherRequest) -> dict[str, Any]:
        """Return the body of a request as it is sent."""
        content: FrameRequest = request.content
        messages = plain_messages([{"role": "user", "content": content.content}])
        body = {"model": self._config.model, "messages": messages, **self._sent_fields()}
        return dict(encodable(body))

    def provenance(self) -> TeacherProvenance:
        """Return what all its answers have in common; sends nothing."""
        config = self._config
        probe = None
        if self._may_send_schema():
            probe = stored_probe(self._cache, self.teacher_id, self._fields)
        has_schema = probe is not None and probe.is_honoured
        return TeacherProvenance(
            teacher=self.teacher_id,
            prompt=config.prompt,
            prompt_sha=prompt_hash(config.prompt, answer_form_text(config.answer_form, has_schema)),
            parameters={
                "answer_form": config.answer_form,
                "schema": has_schema,
                "num_frames": config.num_frames,
                "max_pixels": config.max_pixels,
                "frames_as": config.frames_as,
                **encoding(config.frames_as),
                "fields": self._fields,
            },
        )

    def close(self) -> None:
        """End the requests in progress, which raise."""
        with self._connecting:
            self._is_closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _may_send_schema(self) -> bool:
        is_set = RESPONSE_FORMAT in self._config.request_fields
        return self._config.answer_form == "json" and not is_set

    def _send(self, request: FrameRequest) -> ChatReply:
        return self._cache.reply(
            self.teacher_id,
            request.shown,
            lambda: self._completed(request.content, self._sent_fields()),
        )

    def _completed(self, content: str | list[dict[str, Any]], fields: dict[str, Any]) -> ChatReply:
        messages = [{"role": "user", "content": content}]
        return self._connected().complete(self._config.model, messages, fields)

    def _sent_fields(self) -> dict[str, Any]:
        """Return the fields of each request, with the schema where the endpoint honours one."""
        if not self._may_send_schema():
            return self._fields
        with self._checking:
            if self._format is None:
                probe = probe_schema(self._cache, self.teacher_id, self._fields, self._completed)
                _LOG.info(
                    "%s: schema %s (%s)",
                    *(self.teacher_id, "honoured" if probe.is_honoured else "not honoured"),
                    probe.detail,
                )
                self._format = {RESPONSE_FORMAT: ANSWER_FORMAT} if probe.is_honoured else {}
            return self._fields | self._format

    def _check_video(self, request: FrameRequest, reply: ChatReply, fields: dict[str, Any]) -> None:
        """Make sure that the endpoint looks at videos; the second request is paid for once."""
        # Another thread has found it out in the meantime.
        if self._takes_video:
            return
        # With the same fields: some services count a schema's tokens.
        blind = text_request(request.shown["prompt"], fields)
        without = self._cache.reply(
            self.teacher_id, blind.shown, lambda: self._completed(blind.content, fields)
        )
        if problem := unseen_video(self.teacher_id, reply, without):
            raise EndpointRefusedError(f"teacher: {problem}")
        self._takes_video = True

    def _connected(self) -> ChatEndpoint:
        with self._connecting:
            if self._is_closed:
                raise EndpointUnavailableError(f"{self._config.endpoint.base_url}: closed already")
            if self._client is None:
                self._client = ChatEndpoint(self._config.endpoint, self._budget)
            return self._client


def endpoint_teacher_id(config: TeacherConfig) -> str:
    """Return the name of model and endpoint in caches and rows.

    Raises:
        ValueError: No model is named.
    """
    if not config.model:
        raise ValueError(
            f"teacher.model is empty; name the id that {config.endpoint.base_url} serves it by"
        )
    return f"{config.model} at {config.endpoint.base_url}"


def request_fields(config: TeacherConfig) -> dict[str, Any]:
    """Return the fields of each request that say how answers are generated."""
    fields: dict[str, Any] = {
        "max_tokens": config.max_new_tokens,
        "temperature": config.temperature,
    }
    fields |= config.request_fields
    return {name: value for name, value in fields.items() if value is not None}
