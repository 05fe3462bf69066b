"""Questions about single pictures of the world, in VCR's file format: images, boxes, rationales.

What is asked is where one object is, seen from another: a still picture tells no motion. The
rationale says in which part of the picture each of them is. As in VCR, the wrong rationales are
right ones of other questions with the same answer, so that no text fits better than another.
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vidreason.microworld.language import name, place, the
from vidreason.microworld.questions import Question
from vidreason.microworld.renderer import FRAME_SIZE, render_frame, render_masks
from vidreason.microworld.simulation import ARENA, VIDEO_SECONDS, Rollout

DIRECTIONS = ("to the left", "to the right", "above", "below")
QUESTIONS_PER_IMAGE = 4

_CLEAR_DIFFERENCE = 8.0  # world units between the larger and the smaller offset
_CLEAR_OF_BORDERS = 2.0  # world units between an object's centre and another part of the picture
_MOVIE = "microworld"
_CENTRES = tuple(ARENA * (number + 0.5) / 3 for number in range(3))
_NUM_CHOICES = 4
_NUM_TIMES = 4

Places = tuple[str, str]
"""Where in the picture the object is that is asked about, and the one it is seen from."""


@dataclass(frozen=True, kw_only=True)
class Look(Question):
    """A question about the picture at a time."""

    time: float
    """In seconds; the same for all questions about a rollout."""
    subject: int
    """Place in the list of the picture's objects."""
    other: int
    """Place of the object that it is seen from."""
    places: Places


def looks(rollout: Rollout, generator: random.Random) -> Iterator[Look]:
    """Where one visible object is, seen from another, for the pairs of which that is clear.

    Of a few times drawn at random, it is the one of most questions.
    """
    times = [generator.uniform(0.0, VIDEO_SECONDS) for _ in range(_NUM_TIMES)]
    yield from max((list(_looks_at(rollout, time)) for time in times), key=len)


def _looks_at(rollout: Rollout, time: float) -> Iterator[Look]:
    colors = list(_boxes(rollout, time))
    for (subject, one), (other, two) in permutations(enumerate(colors), 2):
        at, seen_from = (rollout.state(color, time)[:2] for color in (one, two))
        answer = _direction(at, seen_from)
        if not answer or not _is_in_one_part(*at) or not _is_in_one_part(*seen_from):
            continue
        places = place(*at), place(*seen_from)
        if places in _REASONS[answer]:
            yield Look(
                template="where",
                type="where",
                text=f"where is {the(rollout, one)} seen from {the(rollout, two)}",
                answer=answer,
                balance_over=DIRECTIONS,
                time=time,
                subject=subject,
                other=other,
                places=places,
            )


def write_questions(
    folder: Path,
    split: str,
    rollouts: Mapping[str, Rollout],
    asked: Sequence[tuple[str, Look]],
    generator: random.Random,
) -> None:
    """Write ``<split>.jsonl``, and an image with its metadata for each video that is asked about.

    Args:
        folder: The corpus' folder, which is made.
        split: ``val`` or ``test``.
        rollouts: Video id -> what happens in it.
        asked: Balanced :func:`looks`, each with the id of its video.
        generator: Decides the order of choices, and which rationales are wrong ones.
    """
    (folder / "vcr1images" / _MOVIE).mkdir(parents=True, exist_ok=True)
    right = Counter((look.answer, look.places) for _, look in asked)
    by_video: dict[str, list[Look]] = defaultdict(list)
    for video_id, look in asked:
        by_video[video_id].append(look)
    number = 0
    with (folder / f"{split}.jsonl").open("w") as file:
        for video_id, own in sorted(by_video.items()):
            shared = _write_image(folder / "vcr1images", video_id, rollouts[video_id], own[0].time)
            for look in own:
                # The labels run through all pairs: one says nothing about the other.
                labels = number % _NUM_CHOICES, (number + number // _NUM_CHOICES) % _NUM_CHOICES
                row = {
                    **shared,
                    **_texts(look, labels, right, generator),
                    "img_id": f"{split}-{video_id}",
                    "annot_id": f"{split}-{number}",
                }
                file.write(json.dumps(row) + "\n")
                number += 1


def _write_image(images: Path, video_id: str, rollout: Rollout, time: float) -> dict[str, Any]:
    """Write the picture and its metadata; what all rows about it say."""
    stem = f"{_MOVIE}/{video_id}"
    boxes = _boxes(rollout, time)
    names = [name(rollout, color) for color in boxes]
    Image.fromarray(render_frame(rollout, time)).save(images / f"{stem}.jpg", quality=95)
    metadata = {
        "boxes": [[*box, 1.0] for box in boxes.values()],
        "segms": [[_outline(*box)] for box in boxes.values()],
        "names": names,
        "width": FRAME_SIZE,
        "height": FRAME_SIZE,
    }
    (images / f"{stem}.json").write_text(json.dumps(metadata))
    return {
        "movie": _MOVIE,
        "objects": names,
        "img_fn": f"{stem}.jpg",
        "metadata_fn": f"{stem}.json",
    }


def _texts(
    look: Look,
    labels: tuple[int, int],
    right: Counter[tuple[str, Places]],
    generator: random.Random,
) -> dict[str, Any]:
    """Question, answers and rationales of a row, as tokens; the right ones stand at ``labels``."""
    subject, other = [look.subject], [look.other]
    answers = [direction for direction in DIRECTIONS if direction != look.answer]
    generator.shuffle(answers)
    answers.insert(labels[0], look.answer)
    reasons = _wrong_reasons(look, right, generator)
    reasons.insert(labels[1], look.places)
    return {
        "question": ["Where", "is", subject, "seen", "from", other, "?"],
        "answer_choices": [[*answer.split(), "."] for answer in answers],
        "answer_label": labels[0],
        "rationale_choices": [
            [subject, "is", *here.split(), "and", other, "is", *there.split(), "."]
            for here, there in reasons
        ],
        "rationale_label": labels[1],
    }


def _wrong_reasons(
    look: Look, right: Counter[tuple[str, Places]], generator: random.Random
) -> list[Places]:
    """Right places of other questions with the same answer; made-up ones where those are few."""
    weights = {places: n for (answer, places), n in right.items() if answer == look.answer}
    weights.pop(look.places)
    wrong: list[Places] = []
    while weights and len(wrong) < _NUM_CHOICES - 1:
        (drawn,) = generator.choices(list(weights), list(weights.values()))
        weights.pop(drawn)
        wrong.append(drawn)
    made_up = [p for p in _REASONS[look.answer] if p != look.places and p not in wrong]
    return wrong + generator.sample(made_up, _NUM_CHOICES - 1 - len(wrong))


def _direction(at: Sequence[float], seen_from: Sequence[float]) -> str:
    """One of ``DIRECTIONS`` by the larger offset; empty where neither is clearly the larger."""
    dx, dy = at[0] - seen_from[0], at[1] - seen_from[1]
    if abs(abs(dx) - abs(dy)) < _CLEAR_DIFFERENCE:
        return ""
    if abs(dx) > abs(dy):
        return "to the left" if dx < 0 else "to the right"
    return "above" if dy < 0 else "below"


def _reasons() -> dict[str, list[Places]]:
    """For each direction, the places that are a reason for it."""
    points = [(x, y) for y in _CENTRES for x in _CENTRES]
    reasons: dict[str, list[Places]] = {direction: [] for direction in DIRECTIONS}
    for x, y in points:
        for other_x, other_y in points:
            both = place(x, y), place(other_x, other_y)
            if x != other_x:
                reasons["to the left" if x < other_x else "to the right"].append(both)
            if y != other_y:
                reasons["above" if y < other_y else "below"].append(both)
    return reasons


_REASONS = _reasons()


def _is_in_one_part(x: float, y: float) -> bool:
    """Whether a point lies in the picture and clearly in one of its nine parts."""
    part = ARENA / 3
    return all(
        0 <= edge <= ARENA and all(abs(edge - part * n) > _CLEAR_OF_BORDERS for n in (1, 2))
        for edge in (x, y)
    )


def _boxes(rollout: Rollout, time: float) -> dict[str, tuple[float, float, float, float]]:
    """Edges in pixels of each visible object, by colour: left, top, right, bottom."""
    boxes = {}
    for color, mask in render_masks(rollout, time).items():
        rows, columns = np.nonzero(mask)
        boxes[color] = (
            float(columns.min()),
            float(rows.min()),
            float(columns.max() + 1),
            float(rows.max() + 1),
        )
    return boxes


def _outline(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]
