"""The protocol of a baseline: a system that is shown frames, and its face as an answerer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn, Self

import torch

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameRule, Frames, FrameSource
from vidreason.evaluation.answerer import Answerer, Capability, Reply
from vidreason.evaluation.provenance import Provenance
from vidreason.example import Example
from vidreason.pretrained.frozen_parts import content_hash
from vidreason.reasoning.prompts import written_out
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.failures import VideoReadError

Fidelity = Literal["official-weights", "re-trained", "re-composed", "generic", "endpoint"]
"""How near a system is to the published one: its released weights in its architecture; its
architecture, trained by us; its idea, put together from other parts; a released model that is
used as any other; a service."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts about a system that a reader of its numbers has to know."""

    fidelity: Fidelity
    source: str
    """Official repository with the commit that was read, or the model's repository."""
    deviations: tuple[str, ...] = ()
    """Where our form differs from the official one."""
    trained_on: tuple[str, ...] = ()
    """Benchmarks and corpora that its weights are known to have seen."""
    licence: str = ""
    """Licence of the weights, as their owners name it."""

    def as_json(self) -> dict[str, Any]:
        """Return the fields as a manifest holds them."""
        return {
            "fidelity": self.fidelity,
            "source": self.source,
            "deviations": list(self.deviations),
            "trained_on": list(self.trained_on),
            "licence": self.licence,
        }


class System:
    """A baseline with its weights in memory.

    A subclass overrides those of the four methods that the system can do; questions of other kinds
    are "n/a" in its rows. Each method gets the frames of each question's video, by the rule of
    :meth:`frame_rule`, and returns one reply a question, in their order. Frames of a blind run have
    no picture (T = 0): the system then answers from the text alone.
    """

    parts: ClassVar[tuple[str, ...]] = ("model",)
    """Names of the weights that it needs."""
    optional_parts: ClassVar[tuple[str, ...]] = ()
    """Names of the weights that it can do without."""
    needs_captioner: ClassVar[bool] = False
    """True if it asks another system about frames, which its configuration names."""
    takes_turns: ClassVar[bool] = False
    """True if it takes the turns before a prompt as they are. Others get the conversation as one
    text, in the prompt (:func:`vidreason.reasoning.prompts.written_out`)."""

    def answer(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Answer open-ended questions in words."""
        self._refuse("answer")

    def choose(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Name one of the options of each question in words."""
        self._refuse("choose")

    def predict(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Predict next events, in the form of :mod:`vidreason.reasoning.predictions`."""
        self._refuse("predict")

    def log_likelihoods(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Score the options of each question."""
        self._refuse("log_likelihoods")

    @classmethod
    def load(cls, config: BaselineConfig, decoding: DecodingConfig, device: torch.device) -> Self:
        """Load the weights.

        Raises:
            ValueError: They are missing, damaged or of another layout.
        """
        raise NotImplementedError

    @classmethod
    def problems(cls, config: BaselineConfig, decoding: DecodingConfig) -> list[str]:
        """Say what would keep it from being loaded, a line each; loads nothing."""
        return []

    @classmethod
    def load_with_captioner(
        cls,
        config: BaselineConfig,
        decoding: DecodingConfig,
        device: torch.device,
        captioner: "Captioner",
    ) -> Self:
        """Load the weights of a system that asks another one; instead of :meth:`load`.

        Raises:
            ValueError: As :meth:`load`; or the captioner cannot do what is needed.
        """
        raise NotImplementedError

    @classmethod
    def facts(cls, config: BaselineConfig) -> Facts:
        """Return the facts about the system, without loading it."""
        raise NotImplementedError

    @classmethod
    def frame_rule(cls, config: BaselineConfig) -> FrameRule:
        """Return the rule by which its frames are chosen, without loading it."""
        raise NotImplementedError

    @classmethod
    def identity(cls, config: BaselineConfig) -> dict[str, str]:
        """Return what tells its weights from others: content hashes by part.

        Raises:
            ValueError: Weights are missing.
        """
        return {
            part: content_hash(location, config.revision)
            for part, location in sorted(config.weights.items())
        }

    @classmethod
    def answering(cls, config: BaselineConfig) -> dict[str, Any]:
        """Return its own settings that decide its answers, without loading it; JSON values."""
        return {}

    def _refuse(self, capability: Capability) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot {capability}")


class Captioner(NamedTuple):
    """A system that another one asks about frames."""

    system: System
    rule: FrameRule
    """Its rule for the frames of a video."""


class SystemAnswerer(Answerer):
    """A :class:`System` as one of the systems that answer benchmarks.

    Args:
        system: Its class, which says what it can do without being loaded.
        load: Gives it; called when a batch is answered.
        rule: Which frames it looks at.
        frames: Gives them, under the run's control.
        provenance: Of the system.
    """

    def __init__(
        self,
        system: type[System],
        load: Callable[[], System],
        rule: FrameRule,
        frames: FrameSource,
        provenance: Provenance,
    ) -> None:
        self._system = system
        self._load = load
        self._rule = rule
        self._frames = frames
        self.provenance = provenance

    def answer(self, examples: Sequence[Example]) -> list[Reply]:
        """Answer open-ended questions in words."""
        return self._replies("answer", examples)

    def choose(self, examples: Sequence[Example]) -> list[Reply]:
        """Name one of the options of each question in words."""
        return self._replies("choose", examples)

    def predict(self, examples: Sequence[Example]) -> list[Reply]:
        """Predict next events."""
        return self._replies("predict", examples)

    def log_likelihoods(self, examples: Sequence[Example]) -> list[Reply]:
        """Score the options of each question."""
        return self._replies("log_likelihoods", examples)

    def method(self, capability: Capability) -> Callable[..., list[Reply]] | None:
        """The function behind a capability; None if the system does not have it."""
        # The class is asked, so that nothing has to be loaded.
        if getattr(self._system, capability) is getattr(System, capability):
            return None
        return super().method(capability)

    def _replies(self, capability: Capability, examples: Sequence[Example]) -> list[Reply]:
        """Replies to what can be read, and errors for the rest."""
        videos: list[Frames | VideoReadError] = []
        previous: Example | None = None
        for example in examples:
            # Questions about one video follow each other: it is read once.
            if previous is None or previous.media_span != example.media_span:
                try:
                    videos.append(self._frames(*example.media_span, self._rule))
                except VideoReadError as error:
                    videos.append(error)
            else:
                videos.append(videos[-1])
            previous = example
        # Questions whose video cannot be read are not asked.
        readable = [video for video in videos if isinstance(video, Frames)]
        questions = [
            example if self._system.takes_turns else _in_one_text(example)
            for example, video in zip(examples, videos, strict=True)
            if isinstance(video, Frames)
        ]
        replies: list[Reply] = []
        if readable:
            # Weights are loaded here, with the first video that can be read.
            with torch.inference_mode():
                replies = getattr(self._load(), capability)(readable, questions)
        # Replies back in the places of the questions that could be asked.
        remaining = iter(replies)
        return [
            next(remaining) if isinstance(video, Frames) else replace(Reply(), error=video)
            for video in videos
        ]


def _in_one_text(example: Example) -> Example:
    if not example.earlier_turns:
        return example
    prompt = written_out(example.earlier_turns, example.prompt)
    return replace(example, prompt=prompt, earlier_turns=())
