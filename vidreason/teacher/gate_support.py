"""Steps that the video does not show: the gate's last step, for which a verifier looks again.

The paper's own model told of a torque wrench that was never used (section 5.3): what is usual
overrode what was visible. Predictions are not verified, as they are about what is not shown.
"""

import math
from dataclasses import replace
from typing import NamedTuple

from vidreason.evidence.verifier import Claim, Support, Verifier
from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.gate_config import GateConfig


class Supported(NamedTuple):
    """A draft after a second look."""

    draft: Draft
    """Without the steps that were dropped."""
    problem: str | None
    """Why it is rejected; None where it is not."""
    flags: tuple[str, ...] = ()
    """Remarks on single steps, numbered as the teacher wrote them."""


def supported(clip: Clip, draft: Draft, verifier: Verifier, config: GateConfig) -> Supported:
    """Ask a verifier whether each step is visible in its span, and act on the answers.

    Raises:
        VideoReadError: The clip's video cannot be read.
    """
    if not draft.steps:
        return Supported(draft, None)
    claims = [claim_of_step(clip, step) for step in draft.steps]
    supports = verifier.verify(claims)
    unseen = [number for number, support in enumerate(supports, 1) if not support.is_supported]
    if not unseen:
        return Supported(draft, None)
    if config.unsupported == "reject":
        return Supported(draft, f"not visible: {_listed(draft, supports, unseen)}")
    if config.unsupported == "flag":
        flags = tuple(f"unsupported step {_scored(supports, number)}" for number in unseen)
        return Supported(draft, None, flags)
    visible = tuple(s for number, s in enumerate(draft.steps, 1) if number not in unseen)
    # At least one step stays, whatever the bounds allow.
    if len(visible) < max(config.min_steps, 1, config.min_supported * len(draft.steps)):
        detail = (
            f"too few visible: {len(visible)} of {len(draft.steps)} steps are; not "
            f"{_listed(draft, supports, unseen)}"
        )
        return Supported(draft, detail)
    flags = tuple(f"dropped step {_scored(supports, number)}" for number in unseen)
    return Supported(replace(draft, steps=visible), None, flags)


def claim_of_step(clip: Clip, step: Step) -> Claim:
    """Return the claim that a step is visible in its span, or in the clip where it has none.

    Args:
        clip: The span lies within it.
        step: Its times are from the start of the clip. The verifier adds a margin of its own, so
            that a moment is a span, too.
    """
    whole = Claim(
        text=step.text,
        media=clip.media,
        start_seconds=clip.start_seconds,
        end_seconds=clip.end_seconds,
    )
    if step.start_seconds is None:
        return whole
    offset = clip.start_seconds or 0.0
    limit = math.inf if clip.end_seconds is None else clip.end_seconds
    start = offset + max(step.start_seconds, 0.0)
    end = limit if step.end_seconds is None else min(offset + step.end_seconds, limit)
    if end < start:  # after the clip's end, within the tolerance
        return whole
    return replace(whole, start_seconds=start, end_seconds=None if end == math.inf else end)


def _listed(draft: Draft, supports: list[Support], unseen: list[int]) -> str:
    return "; ".join(
        f"step {_scored(supports, number)} {draft.steps[number - 1].text[:80]!r}"
        for number in unseen
    )


def _scored(supports: list[Support], number: int) -> str:
    return f"{number} ({supports[number - 1].score:.2f})"
