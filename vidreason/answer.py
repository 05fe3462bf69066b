"""Answers about videos as objects: text, confidence, and what the answer rests on.

They print as their text and draw themselves in a notebook: key frames with the masks of the objects
that were seen, and the parts of the video that count most.
"""

import json
from dataclasses import dataclass
from html import escape
from typing import Any

from vidreason.perception.visual_tokens import VisualTokens
from vidreason.reasoning.evidence import Evidence
from vidreason.reasoning.explanations import Step, format_explanation
from vidreason.reasoning.forecast_text import (
    LikelyEvents,
    evidence_text,
    forecasts_values,
    prediction_text,
)
from vidreason.reasoning.future_search import Forecasts
from vidreason.reasoning.predictions import parse_predictions
from vidreason.secrets import without_controls
from vidreason.video.config import SamplingConfig


@dataclass(frozen=True, kw_only=True)
class TokenCounts:
    """Numbers of tokens that went into an answer."""

    visual: int
    """Visual tokens of the video."""
    embeddings: int
    """Video embeddings that they became, before the prompt."""
    prompt: int
    answer: int


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Elapsed time."""

    perceive_seconds: float
    """Nearly 0 for a video that was looked at before."""
    answer_seconds: float
    """Evidence included."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer about a video."""

    text: str
    confidence: float | None
    """Probability, from 0 to 1, that the model answers just this, by its own likelihoods; None for
    an empty answer. It is no calibrated chance to be right: ``evaluate`` says how they relate."""
    evidence: tuple[Evidence, ...]
    """All parts of the video with their support in nats, the largest first."""
    tokens: TokenCounts
    timings: Timings
    warnings: tuple[str, ...]
    media: str
    """Path or address of the video; of a copy, where it was in memory."""
    start_seconds: float | None
    """Start of the span that was looked at; None for the video's."""
    end_seconds: float | None
    visual_tokens: VisualTokens
    """With boxes, times, tracks and masks of the objects."""
    sampling: SamplingConfig

    def __str__(self) -> str:
        # Generated text may hold escapes of the terminal.
        return without_controls(self.text)

    def __repr__(self) -> str:
        confidence = "" if self.confidence is None else f", confidence={self.confidence:.3f}"
        return f"{type(self).__name__}({self.text!r}{confidence})"

    def to_json(self) -> str:
        """Write the answer as one JSON object in ASCII; its key ``answer`` is the text."""
        return json.dumps({"answer": self.text, **self._values()}, indent=2)

    def _values(self) -> dict[str, Any]:
        return {
            "confidence": self.confidence,
            "evidence": [part._asdict() for part in self.evidence],
            "warnings": list(self.warnings),
        }

    def _repr_html_(self) -> str:
        """Draw the answer for a notebook."""
        # Pages need Pillow and the reader, which an answer does not.
        from vidreason.evaluation.page.pictures import key_frames
        from vidreason.video.failures import VideoReadError

        try:
            span = (self.media, self.start_seconds, self.end_seconds)
            frames = key_frames(span, self.visual_tokens, self.sampling)
        # The file may be gone by now: the answer is shown without pictures.
        except VideoReadError:
            frames = []
        pictures = "".join(
            f'<figure style="display:inline-block;margin:2px;width:160px">'
            f'<img src="{frame.data_uri}" style="width:100%" alt="frame at {frame.seconds:.1f} s">'
            f"<figcaption>{frame.seconds:.1f} s</figcaption></figure>"
            for frame in frames
        )
        lines = [f"<pre>{escape(str(self))}</pre>", f"<div>{pictures}</div>"]
        if self.confidence is not None:
            lines.append(f"<p>confidence {self.confidence:.1%}</p>")
        if shown := evidence_text(self.evidence):
            lines.append(f"<p>rests on {escape(shown)}</p>")
        lines += [f"<p>warning: {escape(warning)}</p>" for warning in self.warnings]
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Choice(Answer):
    """A chosen option; ``confidence`` is its share among the options."""

    options: tuple[str, ...]
    index: int
    """Index of the chosen one in ``options``."""
    probabilities: tuple[float, ...]
    """Probability of each option."""


@dataclass(frozen=True, kw_only=True)
class Explanation(Answer):
    """An explanation, step by step."""

    steps: tuple[Step, ...]
    """With their causes and effects; empty where the text has none that can be read."""

    def _values(self) -> dict[str, Any]:
        steps = [
            step._asdict() | {"links": [link._asdict() for link in step.links]}
            for step in self.steps
        ]
        return super()._values() | {"steps": steps}

    def __str__(self) -> str:
        return without_controls(format_explanation(self.steps) or self.text)


@dataclass(frozen=True, kw_only=True)
class Forecast(Answer):
    """Next events; ``text`` is the top one, and ``confidence`` its computed probability."""

    printed: str
    """The prediction as the model writes it, with the confidences that it prints."""
    forecasts: Forecasts
    """Events with computed probabilities, the likeliest first."""
    likely: LikelyEvents | None = None
    """Set of events that holds the next one in most videos, where the reasoner's folder has a
    calibration of its futures; the probabilities then are calibrated ones, too."""

    def _values(self) -> dict[str, Any]:
        predictions = [item._asdict() for item in parse_predictions(self.printed).items]
        return {
            **super()._values(),
            "predictions": predictions,
            **forecasts_values(self.forecasts),
            "likely": None if self.likely is None else self.likely._asdict(),
        }

    def __str__(self) -> str:
        return without_controls(prediction_text(self.printed, self.forecasts, self.likely))
