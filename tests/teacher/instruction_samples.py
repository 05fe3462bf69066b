"""Clips with answers, as a journal gives them, for the tests of what is written."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from vidreason.reasoning.predictions import Prediction
from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.provenance import TeacherProvenance
from vidreason.teacher.verdicts import Failure, Rejection, Verdict

PROMPT = "Observe. First, explain.\nSecond, predict *what* follows."
PROVENANCE = TeacherProvenance(
    teacher="a-model at https://api.example.org/v1",
    prompt=PROMPT,
    prompt_sha="ab" * 32,
    parameters={"temperature": 0.0, "num_frames": 8, "folder": "/data/models/a-model"},
)
CREATED = "2026-03-01T10:00:00Z"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """A clip and how it ended."""

    clip: Clip
    verdict: Verdict | None = None
    failure: Failure | None = None
    detail: str = ""
    created: str = CREATED


DRAFT = Draft(
    steps=(
        Step("The red ball rolls.", 0.25, 1.0),
        Step("It hits the wall, so it stops.", 1.0, None),
    ),
    predictions=(
        Prediction("The ball rests", "nothing pushes it", 0.7),
        Prediction("It rolls back", "", 0.25),
    ),
)
LONE = Draft(predictions=(Prediction("The ball rests", "nothing pushes it", nan),))


def clip(number: int = 0, **fields: Any) -> Clip:
    values: dict[str, Any] = {
        "source": "ego4d",
        "video_id": f"video{number}",
        "media": f"/data/ego4d/full_scale/video{number}.mp4",
        "start_seconds": 1.5,
        "end_seconds": 4.0,
        "scenario": "Cooking",
        "licence": "ego4d",
        "reference": "#C C rolls the ball",
    }
    return Clip(**(values | fields))


def accepted(one: Clip, draft: Draft = DRAFT, flags: Sequence[str] = ()) -> Ending:
    return Ending(clip=one, verdict=Verdict(draft=draft, flags=tuple(flags)))


def rejected(one: Clip, cause: Rejection, draft: Draft | None = None, detail: str = "") -> Ending:
    return Ending(clip=one, verdict=Verdict(draft=draft, rejection=cause, detail=detail))


def failed(one: Clip, cause: Failure, detail: str = "") -> Ending:
    return Ending(clip=one, failure=cause, detail=detail)


def journal_of(*endings: Ending) -> Callable[[], Iterator[Ending]]:
    """A function like a journal's ``ended``."""
    return lambda: iter(endings)
