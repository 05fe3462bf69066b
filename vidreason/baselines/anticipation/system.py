"""Action anticipation as a system that predicts what happens next in a video."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from typing_extensions import override

from vidreason.baselines.anticipation.anticipator import Anticipator
from vidreason.baselines.anticipation.config import AnticipationConfig
from vidreason.baselines.anticipation.folder import load_anticipator, read_description
from vidreason.baselines.anticipation.recognise import (
    Recogniser,
    annotation_hash,
    is_annotation_folder,
    load_recogniser,
    recogniser_rule,
)
from vidreason.baselines.anticipation.segments import Segment
from vidreason.baselines.anticipation.verbalise import label_text, next_futures, prediction_text
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameRule, Frames
from vidreason.baselines.questions import is_about_next
from vidreason.baselines.system import Facts, System
from vidreason.evaluation.answerer import Reply
from vidreason.example import Example
from vidreason.reasoning.plain_text import normalise_answer
from vidreason.reasoning.reasoner_config import DecodingConfig


class Anticipation(System):
    """Recognise the segments of a video, and predict the next one.

    ``weights.model`` is the folder of a network, ``weights.recogniser`` that of a recogniser or of
    the annotators' labels, ``weights.encoder`` optionally the file of the recogniser's encoder.
    """

    parts: ClassVar[tuple[str, ...]] = ("model", "recogniser")
    optional_parts: ClassVar[tuple[str, ...]] = ("encoder",)

    def __init__(
        self, anticipator: Anticipator, recogniser: Recogniser, decoding: DecodingConfig
    ) -> None:
        self._anticipator = anticipator
        self._recogniser = recogniser
        self._decoding = decoding

    @override
    def predict(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        replies = []
        for frames, example in zip(videos, examples, strict=True):
            observed = self._recogniser(frames, example)
            following = self._anticipator.next_labels(observed)
            futures = next_futures(
                following, self._anticipator.labels, observed, self._decoding.futures
            )
            replies.append(Reply(output=prediction_text(futures), futures=futures))
        return replies

    @override
    def choose(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Name the likeliest option where all are labels and the future is asked for.

        Other questions are not applicable to it.
        """
        return [
            self._choice(frames, example) for frames, example in zip(videos, examples, strict=True)
        ]

    def _choice(self, frames: Frames, example: Example) -> Reply:
        # Options are texts, with which labels are compared in words.
        texts = {normalise_answer(label_text(x)): n for x, n in self._anticipator.index.items()}
        options = [normalise_answer(label_text(option)) for option in example.options]
        if not is_about_next(example) or not all(option in texts for option in options):
            return Reply(applies=False)
        observed: Sequence[Segment] = self._recogniser(frames, example)
        scores = self._anticipator.next_labels(observed).log_probabilities
        best = max(range(len(options)), key=lambda number: float(scores[texts[options[number]]]))
        return Reply(output=example.options[best])

    @override
    @classmethod
    def load(cls, config: BaselineConfig, decoding: DecodingConfig, device: torch.device) -> Self:
        model, recogniser = _folders(config)
        cls._check(config)
        return cls(
            load_anticipator(model, device),
            load_recogniser(recogniser, config.weights.get("encoder", ""), device),
            decoding,
        )

    @override
    @classmethod
    def facts(cls, config: BaselineConfig) -> Facts:
        network = cls._check(config)
        annotated = is_annotation_folder(_folders(config)[1])
        return Facts(
            fidelity="re-trained",
            source="yabufarha/anticipating-activities@756d5b8 (no weights were released)",
            deviations=(
                "the observed segments are the annotators' labels, an oracle"
                if annotated
                else "the observed segments come from a head on a frozen video encoder",
                "lengths are relative to what is observed, as the whole video's is not known",
                f"a sequence of more than {network.num_slots} segments is seen from its "
                f"{'end' if network.kept_slots == 'last' else 'start'}",
                "the next label in words, with its probability, is the predicted event",
            ),
            trained_on=read_description(_folders(config)[0], AnticipationConfig).trained_on,
            licence="trained here",
        )

    @override
    @classmethod
    def frame_rule(cls, config: BaselineConfig) -> FrameRule:
        return recogniser_rule(_folders(config)[1], config.num_frames)

    @override
    @classmethod
    def identity(cls, config: BaselineConfig) -> dict[str, str]:
        recogniser = _folders(config)[1]
        if not is_annotation_folder(recogniser):
            return super().identity(config)
        # A folder of the annotators' labels has no weights: its texts are hashed instead.
        hashed = replace(config, weights={"model": config.weights["model"]})
        return {**super().identity(hashed), "recogniser": annotation_hash(recogniser)}

    @override
    @classmethod
    def answering(cls, config: BaselineConfig) -> dict[str, Any]:
        return {"network": cls._check(config).network}

    @staticmethod
    def _check(config: BaselineConfig) -> AnticipationConfig:
        """The network's settings, which must not need what no benchmark gives."""
        network = read_description(_folders(config)[0], AnticipationConfig).config
        assert isinstance(network, AnticipationConfig)
        if network.length_reference == "total":
            raise ValueError(
                f"weights.model {config.weights['model']!r} was trained with "
                "length_reference=total, the length of the whole video, which a question about "
                "the future does not give; train with length_reference=observed"
            )
        return network


def _folders(config: BaselineConfig) -> tuple[str, str]:
    """Folders of the network and of the recogniser."""
    for name in ("model", "recogniser"):
        folder = config.weights.get(name, "")
        if not folder or not Path(folder).is_dir():
            raise ValueError(
                f"weights.{name} is {folder!r}, which is no folder; anticipation needs "
                "{model: FOLDER, recogniser: FOLDER}, as python -m experiments.train_baseline "
                "writes them"
            )
    return config.weights["model"], config.weights["recogniser"]
