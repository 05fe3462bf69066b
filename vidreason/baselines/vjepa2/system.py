"""The V-JEPA 2 anticipation probe as a system that predicts next events."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid
from typing_extensions import override

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameRule, Frames, LastFrames, middle_frames
from vidreason.baselines.questions import is_about_next
from vidreason.baselines.system import Facts, System
from vidreason.baselines.vjepa2.config import LookAhead
from vidreason.baselines.vjepa2.future_latents import FutureLatents, load_future_latents
from vidreason.baselines.vjepa2.probe import AttentiveProbe
from vidreason.baselines.vjepa2.probe_files import (
    CARD_FILE,
    ProbeCard,
    label_prior,
    load_probe,
    read_card,
)
from vidreason.baselines.vjepa2.released_probes import load_released_probe
from vidreason.evaluation.answerer import Reply
from vidreason.example import Example
from vidreason.pretrained.frozen_parts import content_hash
from vidreason.reasoning.futures import Future, with_temperature
from vidreason.reasoning.plain_text import normalise_answer
from vidreason.reasoning.predictions import MAX_PREDICTIONS, Prediction, format_predictions
from vidreason.reasoning.reasoner_config import DecodingConfig

SOURCE = "facebookresearch/vjepa2@c2963a4, evals/action_anticipation_frozen"
_ANNOTATIONS = "annotations"
_DEVIATIONS = (
    "frames are taken by their times, at exactly the configured rate; the official code steps by a "
    "whole number of frames",
    "what lies before a question's span is not looked at: its first frame repeats",
    "an event is a label of training; the probe gives no justification",
)
_TRAINING_DEVIATIONS = (
    "latents of the frozen encoder are computed once, without augmentation, for one anticipation "
    "time; the loss is cross-entropy, not focal",
)
_RELEASED_DEVIATIONS = (
    "its labels stand in the order of CPython's sets over EPIC_100_train.csv, as in the official "
    "code, named by the narrators' commonest words",
    "probabilities are its sigmoids divided by their sum",
)


class VJepa2Probe(System):
    """Predicts one of the labels of a probe's training, from what is seen and what is foretold.

    ``weights.encoder`` is a folder of transformers or a repository of the Hub. ``weights.probe`` is
    a folder as :func:`~vidreason.baselines.vjepa2.probe_files.save_probe` writes it, or a released
    ``ek100-*.pt`` with ``weights.annotations``, the ``EPIC_100_train.csv`` that names its labels.

    Args:
        latents: Encoder and predictor.
        probe: Of latents of that width.
        card: Of the probe; its last head says the events.
        decoding: Number of events and temperature of their probabilities.
    """

    parts: ClassVar[tuple[str, ...]] = ("encoder", "probe")
    optional_parts: ClassVar[tuple[str, ...]] = (_ANNOTATIONS,)

    def __init__(
        self,
        latents: FutureLatents,
        probe: AttentiveProbe,
        card: ProbeCard,
        decoding: DecodingConfig,
    ) -> None:
        if latents.width != card.sizes.width:
            raise ValueError(
                f"baselines: weights.probe takes latents of width {card.sizes.width}, but "
                f"weights.encoder gives {latents.width}; give the encoder it was trained on"
            )
        self._latents = latents
        self._probe = probe
        self._card = card
        self._futures = decoding.futures
        self._head = card.heads[-1]
        self._prior = torch.tensor(label_prior(self._head), dtype=torch.float64).log()
        self._index_of = {
            normalise_answer(label): index for index, label in enumerate(self._head.labels)
        }

    @override
    def predict(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        return [self._prediction(scores) for scores in self._log_probabilities(videos)]

    @override
    def choose(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Name the likeliest option where all are labels and a question asks what comes next.

        Other questions are not applicable to it.
        """
        replies = []
        for scores, example in zip(self._log_probabilities(videos), examples, strict=True):
            indices = [self._index_of.get(normalise_answer(option)) for option in example.options]
            # One option that is no label would make a choice among the others meaningless.
            known = [float(scores[index]) for index in indices if index is not None]
            if len(known) < len(indices) or not is_about_next(example):
                replies.append(Reply(applies=False))
            else:
                # The first of equally likely ones.
                replies.append(Reply(output=example.options[known.index(max(known))]))
        return replies

    @override
    @classmethod
    def load(cls, config: BaselineConfig, decoding: DecodingConfig, device: torch.device) -> Self:
        _check_parts(config)
        if _is_released(config):
            probe, card = load_released_probe(
                config.weights["probe"], config.weights.get(_ANNOTATIONS, "")
            )
        else:
            probe, card = load_probe(Path(config.weights["probe"]))
        # A released probe does not say which encoder it was trained on.
        if card.encoder and card.encoder != cls.identity(config)["encoder"]:
            raise ValueError(
                f"baselines: weights.encoder {config.weights['encoder']!r} is not the encoder that "
                f"the probe {config.weights['probe']!r} was trained on: their contents differ; "
                "give that one, or train the probe again"
            )
        latents = load_future_latents(
            *(config.weights["encoder"], card.look_ahead),
            device=device,
            dtype=getattr(torch, config.dtype),
            revision=config.revision,
        )
        return cls(latents, probe.to(device), card, decoding)

    @override
    @classmethod
    def facts(cls, config: BaselineConfig) -> Facts:
        _check_parts(config)
        if _is_released(config):
            fidelity, trained_on = "official-weights", ["EPIC-KITCHENS-100"]
        else:
            card = read_card(Path(config.weights["probe"]))
            fidelity, trained_on = card.fidelity, card.trained_on
        is_ours = fidelity == "re-trained"
        return Facts(
            fidelity="re-trained" if is_ours else "official-weights",
            source=SOURCE,
            deviations=_DEVIATIONS + (_TRAINING_DEVIATIONS if is_ours else _RELEASED_DEVIATIONS),
            trained_on=tuple(trained_on),
            licence="code MIT; weights: see the page of the model",
        )

    @override
    @classmethod
    def frame_rule(cls, config: BaselineConfig) -> FrameRule:
        if config.num_frames is not None:
            return middle_frames(config.num_frames)
        look_ahead = _look_ahead(config)
        return LastFrames(look_ahead.num_frames, look_ahead.frames_per_second)

    @override
    @classmethod
    def identity(cls, config: BaselineConfig) -> dict[str, str]:
        _check_parts(config)
        hashes = super().identity(config)
        card = Path(config.weights["probe"]) / CARD_FILE
        if card.is_file():  # the labels are in it
            hashes["card"] = content_hash(str(card))
        return hashes

    @override
    @classmethod
    def answering(cls, config: BaselineConfig) -> dict[str, Any]:
        return {"look_ahead": asdict(_look_ahead(config))}

    def _log_probabilities(self, videos: Sequence[Frames]) -> list[Tensor]:
        """Natural-log probabilities ``(labels,)`` float64 on the CPU, by video."""
        by_video: list[Tensor] = []
        for index, video in enumerate(videos):
            # Questions about one video follow each other, with one object for its frames.
            if index and video is videos[index - 1]:
                by_video.append(by_video[-1])
            elif not len(video.pixels):
                by_video.append(self._prior)  # all that is known of a video that is not seen
            else:
                logits = self._probe(self._latents.of_videos([video]))[self._head.name]
                by_video.append(_log_shares(logits[0].double().cpu(), self._card.scores))
        return by_video

    def _prediction(self, scores: Tensor) -> Reply:
        """Write down the likeliest events."""
        number = min(self._futures.num_candidates, len(scores))
        values, indices = scores.sort(descending=True, stable=True)
        candidates = [
            # The probability comes with the temperature, below.
            Future(self._head.labels[index], value, 0.0)
            for value, index in zip(
                values[:number].tolist(), indices[:number].tolist(), strict=True
            )
            if math.isfinite(value)  # a label that training never had has no logarithm
        ]
        futures = with_temperature(candidates, self._futures.temperature)
        likely = [Prediction(item.event, "", item.probability) for item in futures]
        return Reply(output=format_predictions(likely[:MAX_PREDICTIONS]), futures=futures)


def _log_shares(logits: Tensor, scores: str) -> Tensor:
    """Return natural-log probabilities of which the sum of all labels is 1."""
    # Of log-sigmoids, softmax divides each sigmoid by the sum of all.
    return log_softmax(logits if scores == "softmax" else logsigmoid(logits), dim=-1)


def _look_ahead(config: BaselineConfig) -> LookAhead:
    _check_parts(config)
    if _is_released(config):
        return LookAhead()
    return read_card(Path(config.weights["probe"])).look_ahead


def _is_released(config: BaselineConfig) -> bool:
    return not Path(config.weights["probe"]).is_dir()


def _check_parts(config: BaselineConfig) -> None:
    """Make sure that the configuration names the parts.

    Raises:
        ValueError: One is missing, or there are others.
    """
    parts = set(VJepa2Probe.parts)
    known = parts | set(VJepa2Probe.optional_parts)
    if not parts <= config.weights.keys() <= known:
        raise ValueError(
            f"baselines: weights of kind 'vjepa2' has {sorted(config.weights)}; it takes 'encoder' "
            "(a folder of transformers or a repository of the Hub), 'probe' (a trained probe's "
            f"folder or a released ek100-*.pt) and, for a released one, {_ANNOTATIONS!r} "
            "(EPIC_100_train.csv)"
        )
