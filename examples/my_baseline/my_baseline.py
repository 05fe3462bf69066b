"""A baseline that sees pictures but no order: the option whose text CLIP finds nearest to them.

``pip install ./examples/my_baseline`` in the environment of the programs; then
``baselines.clip={kind: clip_options, weights: {model: openai/clip-vit-base-patch32}}``.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from transformers import CLIPModel, CLIPProcessor

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameRule, Frames, middle_frames
from vidreason.baselines.system import Facts, System
from vidreason.evaluation.answerer import Reply
from vidreason.example import Example
from vidreason.reasoning.reasoner_config import DecodingConfig

_NUM_FRAMES = 8


class ClipOptions(System):
    """Scores options only, so that all other questions are n/a in its rows."""

    def __init__(self, model: CLIPModel, processor: CLIPProcessor) -> None:
        self._model = model
        self._processor = processor

    @classmethod
    def load(cls, config: BaselineConfig, decoding: DecodingConfig, device: torch.device) -> Self:
        """Load CLIP; ``weights.model`` is a folder or a repository of the Hub."""
        name, dtype = config.weights["model"], getattr(torch, config.dtype)
        model = CLIPModel.from_pretrained(name, revision=config.revision, dtype=dtype)
        processor = CLIPProcessor.from_pretrained(name, revision=config.revision)
        return cls(model.to(device).eval(), processor)

    @classmethod
    def facts(cls, config: BaselineConfig) -> Facts:
        """Say how near it is to something published, and what a reader has to know."""
        return Facts(
            fidelity="generic",
            source="openai/CLIP",
            deviations=("frames are averaged", "options without the question"),
        )

    @classmethod
    def answering(cls, config: BaselineConfig) -> dict[str, Any]:
        """Say what decides the answers beside the weights: they are kept while it is the same."""
        return {"version": 1}  # raise it with any change of the code below

    @classmethod
    def frame_rule(cls, config: BaselineConfig) -> FrameRule:
        """Look at the middles of equal parts."""
        return middle_frames(config.num_frames or _NUM_FRAMES)

    def log_likelihoods(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Score each option by its similarity to the mean of the frames."""
        return [self._reply(video, one) for video, one in zip(videos, examples, strict=True)]

    def _reply(self, video: Frames, example: Example) -> Reply:
        if not len(video.pixels):  # blind: nothing to compare, so no option is nearer
            return Reply(log_likelihoods=(0.0,) * len(example.options))
        inputs: dict[str, Any] = self._processor(
            text=list(example.options),
            images=list(video.pixels),
            padding=True,
            truncation=True,
            return_tensors="pt",
        ).to(self._model.device, self._model.dtype)
        # (T, options) -> (options,)
        scores = self._model(**inputs).logits_per_image.float().mean(0).log_softmax(-1)
        return Reply(log_likelihoods=tuple(scores.tolist()))
