"""The end of a clip: accepted, rejected by the gate, or failed before there was an answer."""

from dataclasses import dataclass
from typing import Literal

from vidreason.teacher.draft import Draft

Rejection = Literal[
    "refusal",
    "cut",
    "schema",
    "hostile",
    "length",
    "repetition",
    "temporal",
    "leakage",
    "near_duplicate",
    "unsupported",
]
"""Causes for which an answer is rejected, in the order in which they are looked for: the teacher
refused; its answer was cut at the limit of tokens; it has not the form; it has control tokens,
markup or control characters in its texts; texts or lists are too short or too long; it repeats
itself; its times contradict each other or the clip; it says what an evaluation set does; it is
nearly the answer to an earlier clip; a step is not visible in its span."""

Failure = Literal["unreadable_video", "refused_request", "endpoint"]
"""Causes for which there is no answer: the video cannot be read; the endpoint does not take the
request, as too long or not allowed; the endpoint gave no valid reply in all tries."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The gate's decision on a clip's answer."""

    draft: Draft | None = None
    """The answer, without the steps that were dropped; None where it could not be read."""
    rejection: Rejection | None = None
    """None for an accepted answer."""
    detail: str = ""
    """Remark for the report; printable, at most 300 characters."""
    flags: tuple[str, ...] = ()
    """Remarks for a reviewer of an accepted answer, such as ``unsupported step 2``."""
