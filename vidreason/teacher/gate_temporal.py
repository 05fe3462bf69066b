"""Times of the steps and confidences of the predictions: the gate's seventh step."""

import math
import re
from collections.abc import Sequence
from itertools import pairwise

from vidreason.reasoning.predictions import Prediction
from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.gate_config import GateConfig

# Words with which a later sentence may tell of an earlier time.
_EARLIER = re.compile(
    r"\b(?:before|earlier|previously|already|had|prior|beforehand|initially|originally|first|"
    r"meanwhile|while|simultaneously|as|during|at the same time|throughout|since|because|until)\b",
    re.IGNORECASE,
)


def wrong_times(clip: Clip, draft: Draft, config: GateConfig) -> str | None:
    """Describe the first contradiction among times or confidences; None for none.

    Args:
        clip: Its span, as far as it is known, says how long it is.
        draft: Times are from the start of the clip.
        config: What is allowed.
    """
    num_timed = sum(step.start_seconds is not None for step in draft.steps)
    if 0 < num_timed < len(draft.steps) and not config.partial_times:
        return f"times of some: {num_timed} of {len(draft.steps)} steps have times"
    wrong = _wrong_steps(draft.steps, _num_seconds(clip), config.time_tolerance)
    return wrong or _wrong_confidences(draft.predictions)


def _num_seconds(clip: Clip) -> float:
    """Length of a clip; infinite where it reaches to the unknown end of the video."""
    if clip.end_seconds is None:
        return math.inf
    return clip.end_seconds - (clip.start_seconds or 0.0)


def _wrong_steps(steps: Sequence[Step], num_seconds: float, tolerance: float) -> str | None:
    latest = -math.inf
    for number, (text, start, end) in enumerate(steps, start=1):
        if start is None:
            if end is not None:
                return f"no start: step {number} has an end alone"
            continue
        last = start if end is None else end
        if not (math.isfinite(start) and math.isfinite(last)):
            return f"no time: step {number} is at {start:g} to {last:g} s"
        if last < start:
            return f"reversed: step {number} is at {start:g} to {last:g} s"
        if start < -tolerance or last > num_seconds + tolerance:
            return (
                f"outside: step {number} is at {start:g} to {last:g} s of a clip of "
                f"{num_seconds:g} s"
            )
        # Steps are told in their order, unless the words say that one is not.
        if start < latest - tolerance and not _EARLIER.search(text):
            return f"order: step {number} begins at {start:g} s, one before it at {latest:g} s"
        latest = max(latest, start)
    return None


def _wrong_confidences(predictions: Sequence[Prediction]) -> str | None:
    confidences = [item.confidence for item in predictions]
    if len(confidences) == 1 and math.isnan(confidences[0]):
        return None
    for number, confidence in enumerate(confidences, start=1):
        if not 0 <= confidence <= 1:  # NaN among several is not, either
            return f"confidence: prediction {number} has {confidence:g}, which is not from 0 to 1"
    if any(one < other for one, other in pairwise(confidences)):
        return "confidence: a later prediction is likelier than one before it"
    if len(confidences) > 1 and min(confidences) == 1:
        return f"confidence: all {len(confidences)} predictions are certain"
    return None
