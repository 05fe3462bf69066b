"""The protocol of what answers a benchmark: our reasoner, baselines, endpoints and priors alike.

Whatever is an :class:`Answerer` goes through the same batches, controls, kept predictions,
manifests and tables. A new one is a subclass that overrides what it can do::

    class FirstOption(Answerer):
        provenance = Provenance(model="first option")

        def choose(self, examples: Sequence[Example]) -> list[Reply]:
            return [Reply(output=example.options[0]) for example in examples]
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, get_args

from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.provenance import Provenance
from vidreason.example import Example
from vidreason.reasoning.futures import Future
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT
from vidreason.video.failures import VideoReadError

Capability = Literal["answer", "choose", "predict", "log_likelihoods"]
"""The method of an :class:`Answerer` that a question is asked by."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Reply of a system to one question."""

    output: str = ""
    """The text, to be read by the benchmark's parser; empty where options are scored."""
    log_likelihoods: tuple[float, ...] = ()
    """Natural-log likelihood of each option's text, divided by its number of tokens."""
    token_counts: tuple[int, ...] = ()
    """Tokens of each option; empty where ``log_likelihoods`` are an order of the options alone."""
    futures: tuple[Future, ...] = ()
    """Next events with computed probabilities, the most probable first; empty where the question
    asks for none, or the system computes none."""
    num_prompt_tokens: int = 0
    """Tokens of the prompt, without those of the video."""
    num_visual_tokens: int = 0
    """Tokens that stand for the video; 0 where none is shown, or the number is not known."""
    num_generated_tokens: int = 0
    record: Mapping[str, Any] = field(default_factory=dict)
    """How the reply was made, such as a program with its calls; JSON values, kept in the row."""
    error: VideoReadError | None = None
    """Why the video could not be read. Such a question counts as answered wrongly."""
    applies: bool = True
    """False for a question that is not applicable to the system though others of its kind are."""


class Answerer:
    """A system that answers benchmark questions, under one control.

    A subclass overrides the methods for what it can do. Questions that ask for anything else are
    not applicable to it, which is not zero. Each method is given questions of one kind, as many at
    a time as :func:`vidreason.evaluation.benchmark.question_batches` cuts, and returns one reply
    for each, in their order.
    """

    provenance: Provenance
    """Known before the first question is asked, and without loading any weights."""
    not_applicable: str = ""
    """Why no question at all can be asked of it; empty for whatever can be asked."""

    def answer(self, examples: Sequence[Example]) -> list[Reply]:
        """Answer open-ended questions in words, or with a span where one is asked for."""
        self._refuse("answer")

    def choose(self, examples: Sequence[Example]) -> list[Reply]:
        """Name one of the options of each question in words."""
        self._refuse("choose")

    def predict(self, examples: Sequence[Example]) -> list[Reply]:
        """Predict events, in the form of :mod:`vidreason.reasoning.predictions`."""
        self._refuse("predict")

    def log_likelihoods(self, examples: Sequence[Example]) -> list[Reply]:
        """Score the options of each question."""
        self._refuse("log_likelihoods")

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The methods that this system has of its own."""
        names: tuple[Capability, ...] = get_args(Capability)
        return frozenset(name for name in names if self.method(name) is not None)

    def method(self, capability: Capability) -> Callable[..., list[Reply]] | None:
        """The function behind a capability; None if this system does not have it."""
        function: Callable[..., list[Reply]] = getattr(type(self), capability)
        return None if function is getattr(Answerer, capability) else function

    def _refuse(self, capability: Capability) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot {capability}")


class NotApplicable(Answerer):
    """Stand-in for a system under a control that cannot be made: it is asked nothing.

    Args:
        provenance: The system's.
        reason: Why the control cannot be made.
    """

    def __init__(self, provenance: Provenance, reason: str) -> None:
        self.provenance = provenance
        self.not_applicable = reason


def needed_capability(example: Example, answerer: Answerer, config: EvaluationConfig) -> Capability:
    """The capability that a question is asked by.

    Options are scored if the configuration says so and the system can, else it chooses in words.
    """
    if example.options:
        scores = config.multiple_choice == "likelihood" and answerer.method("log_likelihoods")
        return "log_likelihoods" if scores else "choose"
    alone = not example.earlier_turns
    return "predict" if alone and example.prompt == FUTURE_PREDICTION_PROMPT else "answer"
