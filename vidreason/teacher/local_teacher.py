"""A teacher on this machine: a video language model of transformers."""

import threading

import torch

from vidreason.baselines.build import baseline_provenance, system_class
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frame_messages import frames_shown
from vidreason.baselines.frames import FrameRule, Frames
from vidreason.baselines.system import System
from vidreason.endpoints.cache import ReplyCache, request_key
from vidreason.endpoints.errors import EndpointUnavailableError
from vidreason.endpoints.replies import CUT, ChatReply
from vidreason.example import Example
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.teacher.config import TeacherConfig
from vidreason.teacher.prompt import answer_form_text, full_prompt, prompt_hash
from vidreason.teacher.protocol import TeacherRequest
from vidreason.teacher.provenance import TeacherProvenance

_CORPUS = "causal_vid_instruct"


class LocalTeacher:
    """A video language model, loaded when it is first asked; one request at a time.

    Args:
        config: Of kind ``transformers``.
        cache: Keeps the replies.
        device: Where the model runs.

    Raises:
        ValueError: There is no such model.
    """

    def __init__(self, config: TeacherConfig, cache: ReplyCache, device: torch.device) -> None:
        self._config = config
        self._cache = cache
        self._device = device
        self._baseline = baseline_config(config)
        self._decoding = _decoding(config)
        self._class = system_class(self._baseline)
        # The content of the weights is a part of it.
        provenance = baseline_provenance(self._baseline)
        self.teacher_id = f"{config.model} ({provenance.model})"
        self.num_parallel = 1
        self._answering = dict(provenance.answering)
        self._system: System | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    def frame_rule(self) -> FrameRule:
        """Return the rule for the middle frames of equal parts of a clip."""
        return self._class.frame_rule(self._baseline)

    def request(self, frames: Frames) -> TeacherRequest:
        """Make the request for a clip's frames; it is the same every time."""
        config = self._config
        prompt = full_prompt(
            config.prompt, config.answer_form, frames.seconds, frames.duration_seconds
        )
        shown = {
            **{"prompt": prompt, "fields": self._fields(), "answering": self._answering},
            # The frames as they are: the model's processor makes them smaller.
            **frames_shown(frames, "video", config.max_pixels),
        }
        return TeacherRequest(
            key=request_key(self.teacher_id, shown),
            content=(frames, prompt, shown),
            num_images=0,  # nothing is paid for on this machine
            num_image_pixels=0,
            num_text_chars=len(prompt),
        )

    def complete(self, request: TeacherRequest) -> ChatReply:
        """Return the stored reply to a request; without one, generate it and store it.

        Raises:
            EndpointUnavailableError: The teacher is closed.
            ValueError: The model is damaged, incomplete or of a kind that takes no video.
        """
        frames, prompt, shown = request.content
        return self._cache.reply(self.teacher_id, shown, lambda: self._generated(frames, prompt))

    def provenance(self) -> TeacherProvenance:
        """Return what all its answers have in common."""
        config = self._config
        form = answer_form_text(config.answer_form, with_schema=False)
        return TeacherProvenance(
            teacher=self.teacher_id,
            prompt=config.prompt,
            prompt_sha=prompt_hash(config.prompt, form),
            parameters={
                "answer_form": config.answer_form,
                **self._answering,
                "fields": self._fields(),
            },
        )

    def close(self) -> None:
        """Free the model; an answer that is being generated ends first."""
        with self._lock:
            self._system, self._is_closed = None, True

    def _generated(self, frames: Frames, prompt: str) -> ChatReply:
        with self._lock, torch.inference_mode():
            if self._is_closed:
                raise EndpointUnavailableError(f"{self.teacher_id}: closed already")
            if self._system is None:
                self._system = self._class.load(self._baseline, self._decoding, self._device)
            # Only a prompt: the frames are given beside it.
            example = Example(
                id=_CORPUS, corpus=_CORPUS, media="", video_id="", prompt=prompt, response=""
            )
            (reply,) = self._system.answer([frames], [example])
        # A whole answer ends with a token that is not counted.
        is_cut = reply.num_generated_tokens >= self._config.max_new_tokens
        return ChatReply(
            text=reply.output,
            problem=CUT if is_cut else "",
            num_prompt_tokens=reply.num_prompt_tokens + reply.num_visual_tokens,
            num_generated_tokens=reply.num_generated_tokens,
        )

    def _fields(self) -> dict[str, float | str]:
        """Return how answers are generated."""
        config = self._config
        return {
            "strategy": self._decoding.strategy,
            "max_new_tokens": config.max_new_tokens,
            "temperature": config.temperature,
            "top_p": self._decoding.top_p,
            "seed": self._decoding.seed,
        }


def baseline_config(config: TeacherConfig) -> BaselineConfig:
    """Return the model as a baseline: there is one way to load and ask such a model.

    Raises:
        ValueError: No model is named.
    """
    if not config.model:
        raise ValueError(
            "teacher.model is empty; name the folder of a video language model of transformers, or "
            "its repository on the Hub"
        )
    return BaselineConfig(
        kind="transformers",
        weights={"model": config.model},
        num_frames=config.num_frames,
        max_pixels=config.max_pixels,
    )


def _decoding(config: TeacherConfig) -> DecodingConfig:
    if not config.temperature:
        return DecodingConfig(strategy="greedy", max_new_tokens=config.max_new_tokens)
    return DecodingConfig(
        strategy="nucleus",
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=1.0,  # nothing is cut off, as at an endpoint that is told the temperature alone
    )
