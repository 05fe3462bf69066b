"""Forecasts as they are shown: next events with their probabilities, words, times and evidence."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from vidreason.reasoning.evidence import Evidence
from vidreason.reasoning.future_search import Forecast, Forecasts
from vidreason.reasoning.predictions import format_predictions, parse_predictions

_SHOWN_PARTS = 3  # pieces of evidence
_LEAST_SUPPORT = 0.05
"""In nats: below, an event is as likely without a part, but for 5%."""


class LikelyEvents(NamedTuple):
    """Events of which one comes, in a known share of the videos."""

    events: tuple[str, ...]
    """The likeliest first; empty where there is no such set."""
    level: float
    """The share, from 0 to 1."""
    num_videos: int
    """Validation videos that say so."""


def forecasts_text(forecasts: Forecasts, likely: LikelyEvents | None = None) -> str:
    """Write forecasts as a numbered list, in the order and with the labels of a prediction.

    What was computed and what the model printed are marked as such. Empty without any event.

    Args:
        forecasts: Of one video.
        likely: A set that probably holds the next event, where probabilities are calibrated.
    """
    lines = []
    for number, forecast in enumerate(forecasts.items, start=1):
        lines += _forecast_lines(number, forecast)
    if lines and likely is not None and likely.events:
        lines.append(
            f"One of these comes, in {likely.level:.0%} of such videos: {'; '.join(likely.events)}"
        )
    if lines:
        number = len(forecasts.futures)
        events = "1 event" if number == 1 else f"{number} events"
        kind = "shares" if likely is None else f"calibrated on {likely.num_videos} videos; shares"
        lines.append(
            f"(computed: {kind} of {events} that were found, of all that the model may name "
            f"{forecasts.covered_mass:.0%})"
        )
    return "\n".join(lines)


def prediction_text(answer: str, forecasts: Forecasts, likely: LikelyEvents | None = None) -> str:
    """Write what is predicted: the forecasts, or without any event what the model's text holds."""
    if forecasts.items:
        return forecasts_text(forecasts, likely)
    parsed = parse_predictions(answer)
    parts = [format_predictions(parsed.items)] if parsed.items else []
    if parsed.unparsed:
        parts.append(f"(could not be read as a prediction: {parsed.unparsed})")
    return "\n".join(parts)


def forecasts_values(forecasts: Forecasts) -> dict[str, Any]:
    """Return forecasts as JSON holds them."""
    return {
        "futures": [
            {
                **forecast.future._asdict(),
                "confidence": forecast.confidence,
                "evidence": [part._asdict() for part in forecast.evidence],
            }
            for forecast in forecasts.items
        ],
        "num_events": len(forecasts.futures),
        "covered_mass": forecasts.covered_mass,
    }


def _forecast_lines(number: int, forecast: Forecast) -> list[str]:
    future = forecast.future
    lines = [f"{number}. {future.event}", f"Probability: {future.probability:.1%} (computed)"]
    if forecast.confidence is not None:
        lines.append(f"Confidence: {forecast.confidence:g} (printed)")
    if future.justification:
        lines.append(f"Justification: {future.justification}")
    if future.seconds is not None:
        lines.append(f"Expected: {future.seconds:.1f} s after the end (computed)")
    if forecast.evidence:
        parts = evidence_text(forecast.evidence) or "no single part of the video"
        lines.append(f"Rests on: {parts}")
    return lines


def evidence_text(parts: Sequence[Evidence]) -> str:
    """Write down the parts that an answer rests on most; empty where it needs no single one.

    Args:
        parts: The largest support first.
    """
    shown = [part for part in parts if part.support >= _LEAST_SUPPORT]
    return "; ".join(map(_part_text, shown[:_SHOWN_PARTS]))


def _part_text(part: Evidence) -> str:
    name = "clip" if part.kind == "clip" else f"object {part.track_id},"
    start, end = f"{part.start_seconds:.1f}", f"{part.end_seconds:.1f}"
    span = start if start == end else f"{start}-{end}"
    return f"{name} {span} s ({part.support:.2f} nats)"
