"""Baselines from their configurations: the class of each kind, its provenance, and its answerer."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import get_args

import torch

from vidreason.added_parts import check_methods, load_class, part_name
from vidreason.baselines.config import (
    BASELINE_GROUP,
    PARTS_OF_TOKEN_KINDS,
    SEVILA_DECODER_KIND,
    BaselineConfig,
)
from vidreason.baselines.frame_controls import controlled_frames
from vidreason.baselines.frames import FrameReader
from vidreason.baselines.system import Captioner, System, SystemAnswerer
from vidreason.evaluation.answerer import Capability
from vidreason.evaluation.config import Control
from vidreason.evaluation.manifest import digest_of
from vidreason.evaluation.provenance import Provenance
from vidreason.example import Example
from vidreason.fusion.config import KEY_FRAMES
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.reader import VideoReader

SYSTEMS: dict[str, str] = {
    "transformers": "vidreason.baselines.transformers_video:TransformersVideo",
    "endpoint": "vidreason.baselines.endpoint:Endpoint",
    "video_chatgpt": "vidreason.baselines.video_chatgpt:VideoChatGPT",
    "video_llama": "vidreason.baselines.video_llama:VideoLlama",
    "sevila": "vidreason.baselines.sevila:Sevila",
    "viper": "vidreason.baselines.viper:Viper",
    "anticipation": "vidreason.baselines.anticipation.system:Anticipation",
    "vjepa2": "vidreason.baselines.vjepa2.system:VJepa2Probe",
    "mcvd": "vidreason.baselines.mcvd.system:Mcvd",
    "mcvd_observed": "vidreason.baselines.mcvd.system:CaptionerOnObserved",
}
"""The class of each kind, imported when one is evaluated."""

_PROTOCOL = "vidreason.baselines.system.System"
_SHARED_RULE = "middles of equal parts"
_NATIVE_RULE = "the system's own"


def system_class(config: BaselineConfig) -> type[System]:
    """Return the class of a baseline.

    Raises:
        ValueError: One from outside of this project cannot be imported, or is no system.
    """
    if config.kind not in SYSTEMS:  # BaselineConfig refuses unknown names
        return _added_class(config.kind)
    module, _, name = SYSTEMS[config.kind].partition(":")
    system: type[System] = getattr(importlib.import_module(module), name)
    return system


def _added_class(kind: str) -> type[System]:
    system = load_class(BASELINE_GROUP, kind, System, _PROTOCOL)
    load = "load_with_captioner" if system.needs_captioner else "load"
    capabilities = get_args(Capability)
    methods = (*capabilities, "problems", "identity", "answering")
    required = ("facts", "frame_rule", load)
    check_methods(BASELINE_GROUP, kind, system, System, methods, required)
    if all(getattr(system, name) is getattr(System, name) for name in capabilities):
        raise ValueError(
            f"{part_name(BASELINE_GROUP, kind)} answers nothing: override one of "
            f"{', '.join(capabilities)}"
        )
    return system


def baseline_problems(
    name: str,
    config: BaselineConfig,
    others: Mapping[str, BaselineConfig],
    decoding: DecodingConfig,
) -> list[str]:
    """Say what is wrong with a baseline's configuration, a line each; loads nothing.

    Args:
        name: Its key.
        config: The configuration.
        others: All of them, for a captioner that it names.
        decoding: How texts are generated.
    """
    section = f"baselines.{name}.weights"
    if config.kind in PARTS_OF_TOKEN_KINDS:
        return _folder_problems(name, config)
    system = system_class(config)
    # Whatever looks at pictures and is another one may describe them.
    captioners = [
        other
        for other in others
        if other != name and others[other].kind not in PARTS_OF_TOKEN_KINDS
    ]
    known = (*system.parts, *system.optional_parts)
    return [
        *(
            f"{section} has no {part!r}: name the folder, file or repository of it"
            for part in system.parts
            if not config.weights.get(part)
        ),
        *(
            f"{section}.{part}: a baseline of kind {config.kind} has {', '.join(known)}"
            for part in config.weights
            if part not in known
        ),
        *(
            [f"baselines.{name}.captioner is {config.captioner!r}: name another baseline"]
            if config.captioner and config.captioner not in captioners
            else []
        ),
        *(f"baselines.{name}: {problem}" for problem in system.problems(config, decoding)),
        *_captioner_problems(name, config, others),
    ]


def _folder_problems(name: str, config: BaselineConfig) -> list[str]:
    """Say what is wrong with a baseline that is made of reasoner folders."""
    parts = PARTS_OF_TOKEN_KINDS[config.kind]
    problems = []
    if set(config.weights) != set(parts) or not all(config.weights.values()):
        folders = ", ".join(f"{part}: RUN/reasoner" for part in parts)
        problems.append(
            f"baselines.{name}.weights: kind {config.kind} is made of {{{folders}}}, found "
            f"{config.weights}"
        )
    kept = config.num_frames
    if config.kind == SEVILA_DECODER_KIND and kept is not None and kept > KEY_FRAMES:
        problems.append(
            f"baselines.{name}.num_frames is {kept}; its answerer is shown at most {KEY_FRAMES} "
            "key frames: lower it"
        )
    return problems


def _captioner_problems(
    name: str, config: BaselineConfig, others: Mapping[str, BaselineConfig]
) -> list[str]:
    """Say where a baseline that needs a captioner has none, or one that needs another."""
    if not system_class(config).needs_captioner:
        return []
    if not config.captioner:
        return [
            f"baselines.{name}.captioner is empty: a baseline of kind {config.kind} shows "
            "frames to another one; name it"
        ]
    captioner = others.get(config.captioner)
    if captioner is None or captioner.kind in PARTS_OF_TOKEN_KINDS:
        return []  # refused before
    if system_class(captioner).needs_captioner:
        return [
            f"baselines.{name}.captioner is {config.captioner!r}, of kind {captioner.kind}, which "
            "needs a captioner itself: name another baseline"
        ]
    return []


def baseline_provenance(config: BaselineConfig) -> Provenance:
    """Return what a baseline is, by the content of its weights, without loading it.

    Raises:
        ValueError: Weights are missing.
    """
    system = system_class(config)
    rule = _NATIVE_RULE if config.num_frames is None else _SHARED_RULE
    frames = {"rule": rule, "num_frames": config.num_frames}
    if config.num_frames is None:
        # What is a system's own rule depends on the system.
        frames["kind"] = config.kind
    return Provenance(
        model=f"{config.kind}:{digest_of([system.identity(config), config.dtype])}",
        frames=frames,
        answering=system.answering(config),
        system=system.facts(config).as_json(),
    )


class Baseline:
    """One baseline of an evaluation, loaded when it is first asked and released afterwards.

    Args:
        name: The key of its configuration.
        configs: Of all baselines: one may use another, such as a captioner.
        decoding: How texts are generated.
        device: Where it runs.
        reader: Reads the videos.

    Raises:
        ValueError: Weights are missing.
    """

    def __init__(
        self,
        name: str,
        configs: Mapping[str, BaselineConfig],
        decoding: DecodingConfig,
        device: torch.device,
        reader: VideoReader,
    ) -> None:
        config = configs[name]
        self._class = system_class(config)
        self._rule = self._class.frame_rule(config)
        self._frames = FrameReader(reader)
        self.provenance = baseline_provenance(config)
        load: Callable[[], System]
        if self._class.needs_captioner:
            other = configs[config.captioner]
            captioner = system_class(other)
            rule = captioner.frame_rule(other)

            def load() -> System:
                described = Captioner(captioner.load(other, decoding, device), rule)
                return self._class.load_with_captioner(config, decoding, device, described)

            # Its answers are the captioner's, so they are of these weights and settings.
            its = baseline_provenance(other)
            answering = {"captioner": {"model": its.model, "answering": dict(its.answering)}}
            self.provenance = replace(
                self.provenance, answering={**self.provenance.answering, **answering}
            )
        else:

            def load() -> System:
                return self._class.load(config, decoding, device)

        self._load = cache(load)  # when the first question comes, and once
        self.fidelity: str = self.provenance.system["fidelity"]
        """How near it is to the published system."""

    def answerer(
        self, examples: Sequence[Example], control: Control, seed: int = 0
    ) -> SystemAnswerer:
        """Return it as an answerer of ``examples`` under a control.

        Raises:
            ValueError: The control cannot be made.
        """
        frames = controlled_frames(self._frames, examples, control, seed)
        return SystemAnswerer(self._class, self._load, self._rule, frames, self.provenance)

    def release(self) -> None:
        """Forget the weights, so that the next baseline has the memory."""
        self._load.cache_clear()
