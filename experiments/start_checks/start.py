"""A configuration before its program begins, as the checks of ``experiments.start_checks`` see it.

A check is a function from :class:`Start` to lines that say what is wrong: the field, what was
found, and the remedy::

    def tied_output_layer(start: Start) -> Iterator[str]:
        if ...:
            yield "reasoner.lora.target_modules is ...: leave lm_head out"

It writes nothing, downloads nothing and reads no weights. It imports for itself what only some
programs need: evaluation does without all of training, and training without all of evaluation.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Literal

from experiments.experiment_config import ExperimentConfig
from vidreason.config import ConfigurationError
from vidreason.model import VideoReasoner, build_reasoner
from vidreason.perception.models import video_encoder_sizes
from vidreason.reasoning.language_model import at_hand
from vidreason.reasoning.reasoner_config import LanguageModelConfig, ReasonerConfig

Use = Literal["fit", "perceive", "evaluate", "generate", "data check", "explain"]
"""Who asks. ``explain`` may be asked on another machine than the one that trains."""


class Start:
    """A configuration, and what several checks want to know of it.

    Args:
        config: Of the program.
        use: The program.
    """

    def __init__(self, config: ExperimentConfig, use: Use) -> None:
        self.config = config
        self.use = use

    @cached_property
    def language_model(self) -> LanguageModelConfig | None:
        """The language model, named by its folder on this machine; None if it is not here yet."""
        try:
            return at_hand(self.config.reasoner.language_model)
        except ValueError:
            return None

    @cached_property
    def reasoner(self) -> VideoReasoner | None:
        """The reasoner that ``fit`` trains, on the meta device: shapes without values.

        None if files are not on this machine, and if it cannot be built;
        :meth:`why_no_reasoner` tells why.
        """
        return self._built[0]

    @property
    def why_no_reasoner(self) -> list[str]:
        """Reasons why :attr:`reasoner` cannot be built; none for files that are not here yet."""
        return self._built[1]

    @cached_property
    def _built(self) -> tuple[VideoReasoner | None, list[str]]:
        if self.language_model is None:
            return None, []
        # raised() gives messages alone: the reasoner comes out by this list.
        built: list[VideoReasoner] = []
        problems = list(
            raised(lambda: built.append(meta_reasoner(self.config, self.config.reasoner)))
        )
        return (built[0] if built else None), problems


def meta_reasoner(config: ExperimentConfig, reasoner: ReasonerConfig) -> VideoReasoner:
    """Build ``reasoner`` on the meta device, from files that are on this machine.

    Raises:
        ValueError: A file is not here yet, or the parts do not fit together.
    """
    local = replace(reasoner, language_model=at_hand(reasoner.language_model))
    width = video_encoder_sizes(config.perceiver.video_encoder).width
    return build_reasoner(local, width, device="meta")


Check = Callable[[Start], Iterable[str]]


def raised(call: Callable[[], object]) -> Iterator[str]:
    """The message of the ``ValueError`` that ``call`` raises, as a line; nothing if it does not."""
    try:
        call()
    except ConfigurationError as error:
        yield from error.problems
    except ValueError as error:
        # Some messages have several lines; each problem is one line of a list.
        yield " ".join(str(error).split())
