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
from vidreason.baselines.config import REASONER_KIND, SEVILA_DECODER_KIND
from vidreason.baselines.sevila_decoder.key_frames import LOCALIZER_FACTS, check_sevila_part
from vidreason.baselines.sevila_decoder.localized_answerer import LocalizedAnswerer
from vidreason.baselines.system import Facts
from vidreason.config import ConfigurationError
from vidreason.evaluation.answerer import Answerer
from vidreason.evaluation.config import Control
from vidreason.evaluation.controls import controlled_source
from vidreason.evaluation.reasoner_answerer import ReasonerAnswerer
from vidreason.example import Example
from vidreason.fusion.config import KEY_FRAMES
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import TokenSource
from vidreason.pretrained.folder_config import read_config
from vidreason.pretrained.hub import local_reasoner_folder
from vidreason.video.reader import VideoReader

_OTHER = Facts(fidelity="re-trained", source="a reasoner folder of this project")


class Contender(ABC):
    """A system with a row for each control; loaded when its first question is asked."""

    is_reasoner = False
    """True for the one that the others are compared with."""

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
        return ReasonerAnswerer(
            self._controlled(examples, control),
            self._config.decoding,
            self._config.evaluation.max_text_tokens,
            self._identity,
        )

    def _controlled(
        self, examples: Sequence[Example], control: Control
    ) -> Callable[[], tuple[VideoReasoner, TokenSource]]:
        """Return what gives the reasoner, and its visual tokens under a control."""
        seed = self._config.evaluation.seed

        @functools.cache
        def source() -> TokenSource:
            return controlled_source(self._load()[1], examples, control, seed)

        # A source that stays in its cache would hold the perceiver's weights on the device.
        self._forget.append(source.cache_clear)
        return lambda: (self._load()[0], source())

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
    part = "model"
    """Name of the folder among the baseline's weights."""
    facts = _OTHER

    def __init__(self, name: str, config: ExperimentConfig, device: torch.device) -> None:
        self._name = name
        super().__init__(replace(config, model=config.baselines[name].weights[self.part]), device)

    def row(self, control: Control) -> str:
        """Return its name with a tag, and the control."""
        return baseline_row(self.kind(control), self.facts.fidelity)

    def kind(self, control: Control) -> str:
        """Return its name, and the control."""
        return baseline_kind(self._name, control)

    def answerer(self, examples: Sequence[Example], control: Control) -> ReasonerAnswerer:
        """Return it behind a controlled source of visual tokens, told apart from the reasoner."""
        answerer = super().answerer(examples, control)
        # By its system the manifest tells a baseline from the reasoner that was trained.
        answerer.provenance = replace(answerer.provenance, system=self.facts.as_json())
        return answerer


class LocalizedReasoner(OtherReasoner):
    """SeViLA re-composed: a reasoner that is shown the key frames which another one chooses.

    Args:
        name: Its key among ``baselines``.
        config: The experiment's.
        device: Where both run.

    Raises:
        ValueError: A folder is missing or damaged, or the two do not look at the same tokens.
    """

    part = "answerer"
    facts = LOCALIZER_FACTS

    def __init__(self, name: str, config: ExperimentConfig, device: torch.device) -> None:
        super().__init__(name, config, device)
        baseline = config.baselines[name]
        localizer = replace(config, model=baseline.weights["localizer"])
        for part in ("answerer", "localizer"):
            folder = local_reasoner_folder(baseline.weights[part])
            check_sevila_part(read_config(folder).reasoner, f"weights.{part} {str(folder)!r}")
        self._num_key_frames = baseline.num_frames or KEY_FRAMES
        self._identities = self._identity, trained_model_identity(localizer)
        if len({one.perceiver for one in self._identities}) > 1:
            raise ValueError(
                f"weights.answerer {self._config.model!r} and weights.localizer "
                f"{localizer.model!r} were trained on tokens of different perceivers; train the "
                "localizer on that answerer"
            )

        self._load_localizer = functools.cache(lambda: load_trained_model(localizer, device)[0])
        self._forget.append(self._load_localizer.cache_clear)

    def answerer(self, examples: Sequence[Example], control: Control) -> LocalizedAnswerer:
        """Return it behind a controlled source of visual tokens."""
        return LocalizedAnswerer(
            self._controlled(examples, control),
            self._load_localizer,
            self._num_key_frames,
            self._config.decoding,
            self._config.evaluation.max_text_tokens,
            self._identities,
        )


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


# Kinds of baselines that look at visual tokens; all others look at frames.
_TOKEN_KINDS: dict[str, Callable[[str, ExperimentConfig, torch.device], Contender]] = {
    REASONER_KIND: OtherReasoner,
    SEVILA_DECODER_KIND: LocalizedReasoner,
}


def contenders(config: ExperimentConfig, device: torch.device) -> list[Contender]:
    """Return the reasoner, unless ``model=none``, and the baselines in their order.

    None is loaded yet, but all weights are looked for: what is missing of the last one is said
    before the first is asked.

    Raises:
        ConfigurationError: There is no trained reasoner, or weights are missing.
    """
    entered: list[Contender] = []
    problems: list[str] = []

    # What is wrong with several of them is said at once.
    def enter(make: Callable[[], Contender], where: str = "") -> None:
        try:
            entered.append(make())
        except ValueError as error:
            problems.append(f"{where}{error}")

    if config.model != NO_REASONER:
        enter(lambda: TrainedReasoner(config, device))
    for name, baseline in config.baselines.items():
        kind = _TOKEN_KINDS.get(baseline.kind, ConfiguredBaseline)
        enter(functools.partial(kind, name, config, device), f"baselines.{name}: ")
    if problems:
        raise ConfigurationError(problems)
    return entered
