"""Systems that ``evaluate`` asks: the trained reasoner, and the baselines beside it."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from experiments.experiment_config import ExperimentConfig
from experiments.kept_runs import NO_REASONER, ROW_NAMES, baseline_kind, baseline_row
from experiments.trained_model import load_trained_model, trained_model_identity
from vidreason.baselines.build import Baseline
from vidreason.baselines.config import REASONER_KIND
from vidreason.baselines.system import Facts
from vidreason.config import ConfigurationError
from vidreason.evaluation.answerer import Answerer
from vidreason.evaluation.config import Control
from vidreason.evaluation.controls import controlled_source
from vidreason.evaluation.reasoner_answerer import ReasonerAnswerer
from vidreason.example import Example
from vidreason.perception.visual_tokens import TokenSource
from vidreason.video.reader import VideoReader

_OTHER = Facts(fidelity="re-trained", source="a reasoner folder of this project")


class Contender(ABC):
    """A system with a row for each control; loaded when its first question is asked."""

    is_reasoner = False
    """Whether it is the one that the others are compared with."""

    @abstractmethod
    def row(self, control: Control) -> str:
        """Return the name of its row under a control."""

    @abstractmethod
    def kind(self, control: Control) -> str:
        """Return the end of the name of its file of predictions."""

    @abstractmethod
    def answerer(self, examples: Sequence[Example], control: Control) -> Answerer:
        """Return what answers ``examples`` under a control.

        Raises:
            ValueError: The control cannot be made.
        """

    @abstractmethod
    def release(self) -> None:
        """Forget the weights: the next one needs the memory."""


class TrainedReasoner(Contender):
    """The reasoner that was trained.

    Args:
        config: The experiment's.
        device: Where it runs.

    Raises:
        ValueError: There is none.
    """

    is_reasoner = True

    def __init__(self, config: ExperimentConfig, device: torch.device) -> None:
        self._config = config
        self._identity = trained_model_identity(config)
        self._load = functools.cache(lambda: load_trained_model(config, device))
        self._forget = [self._load.cache_clear]

    def row(self, control: Control) -> str:
        """Return the name of the control, which the full model has no other name than."""
        return ROW_NAMES[control]

    def kind(self, control: Control) -> str:
        """Return the control."""
        return control

    def answerer(self, examples: Sequence[Example], control: Control) -> ReasonerAnswerer:
        """Return it behind a controlled source of visual tokens."""
        seed = self._config.evaluation.seed

        @functools.cache
        def source() -> TokenSource:
            return controlled_source(self._load()[1], examples, control, seed)

        self._forget.append(source.cache_clear)
        return ReasonerAnswerer(
            lambda: (self._load()[0], source()),
            self._config.decoding,
            self._config.evaluation.max_text_tokens,
            self._identity,
        )

    def release(self) -> None:
        """Forget it."""
        for forget in self._forget:
            forget()


class OtherReasoner(TrainedReasoner):
    """Another reasoner folder, as one of ``baselines``.

    Args:
        name: Its key.
        config: The experiment's.
        device: Where it runs.

    Raises:
        ValueError: There is no such folder.
    """

    is_reasoner = False

    def __init__(self, name: str, config: ExperimentConfig, device: torch.device) -> None:
        self._name = name
        super().__init__(replace(config, model=config.baselines[name].weights["model"]), device)

    def row(self, control: Control) -> str:
        """Return its name with a tag, and the control."""
        return baseline_row(self.kind(control), _OTHER.fidelity)

    def kind(self, control: Control) -> str:
        """Return its name, and the control."""
        return baseline_kind(self._name, control)

    def answerer(self, examples: Sequence[Example], control: Control) -> ReasonerAnswerer:
        """Return it behind a controlled source of visual tokens, told apart from the reasoner."""
        answerer = super().answerer(examples, control)
        answerer.provenance = replace(answerer.provenance, system=_OTHER.as_json())
        return answerer


class ConfiguredBaseline(Contender):
    """One of ``baselines``.

    Args:
        name: Its key.
        config: The experiment's.
        device: Where it runs.

    Raises:
        ValueError: Weights are missing.
    """

    def __init__(self, name: str, config: ExperimentConfig, device: torch.device) -> None:
        self._name = name
        self._seed = config.evaluation.seed
        reader = VideoReader(config.data.decode_timeout_seconds)
        # Not below `evaluation`, which is removed where other settings are tried.
        replies = str(Path(config.run_dir) / "replies.sqlite")
        configs = {
            key: replace(one, replies=one.replies or replies)
            for key, one in config.baselines.items()
        }
        self._baseline = Baseline(name, configs, config.decoding, device, reader)

    def row(self, control: Control) -> str:
        """Return its name with the tag of its fidelity, and the control."""
        return baseline_row(self.kind(control), self._baseline.fidelity)

    def kind(self, control: Control) -> str:
        """Return its name, and the control."""
        return baseline_kind(self._name, control)

    def answerer(self, examples: Sequence[Example], control: Control) -> Answerer:
        """Return it behind controlled frames."""
        return self._baseline.answerer(examples, control, self._seed)

    def release(self) -> None:
        """Forget its weights."""
        self._baseline.release()


def contenders(config: ExperimentConfig, device: torch.device) -> list[Contender]:
    """Return the reasoner, unless ``model=none``, and the baselines in their order.

    None is loaded yet, but all weights are looked for: what is missing of the last one is said
    before the first is asked.

    Raises:
        ConfigurationError: There is no trained reasoner, or weights are missing.
    """
    entered: list[Contender] = []
    problems: list[str] = []

    def enter(make: Callable[[], Contender], where: str = "") -> None:
        try:
            entered.append(make())
        except ValueError as error:
            problems.append(f"{where}{error}")

    if config.model != NO_REASONER:
        enter(lambda: TrainedReasoner(config, device))
    for name, baseline in config.baselines.items():
        kind = OtherReasoner if baseline.kind == REASONER_KIND else ConfiguredBaseline
        enter(functools.partial(kind, name, config, device), f"baselines.{name}: ")
    if problems:
        raise ConfigurationError(problems)
    return entered
