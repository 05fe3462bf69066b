"""Questions about single pictures of the world, in VCR's file format: images, boxes, rationales.

They ask where one object is, seen from another: a still picture shows no motion. The rationale says
in which part of the picture each of them is. As in VCR, the wrong rationales are right ones of
other questions with the same answer, so that no text fits better than another.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vidreason.microworld.annotation_files import write_json, write_json_lines
from vidreason.microworld.language import direction, is_clearly_placed, name, position_phrase, the
from vidreason.microworld.questions import Question
from vidreason.microworld.renderer import FRAME_SIZE, render_frame, render_masks
from vidreason.microworld.simulation import ARENA, VIDEO_SECONDS, Rollout
from vidreason.reasoning.prompts import boxes_text, multiple_choice_prompt

_ANSWERS = {"left": "to the left", "right": "to the right", "above": "above", "below": "below"}
"""By direction."""
QUESTIONS_PER_IMAGE = 4

_MOVIE = "microworld"
_CENTRES = tuple(ARENA * (number + 0.5) / 3 for number in range(3))
_NUM_CHOICES = 4
_NUM_TIMES = 4

Positions = tuple[str, str]
"""Parts of the picture of the object in question, and of the one it is seen from."""


@dataclass(frozen=True, kw_only=True)
class Look(Question):
    """A question about the picture at a time."""

    time: float
    """In seconds; the same for all questions about a rollout."""
    subject: int
    """Index in the list of the picture's objects."""
    other: int
    """Index of the object that it is seen from."""
    positions: Positions


def looks(rollout: Rollout, generator: random.Random) -> Iterator[Look]:
    """Yield questions where one visible object is, seen from another, if that is clear.

    They are about the time with the most questions, of a few drawn at random.
    """
    times = [generator.uniform(0.0, VIDEO_SECONDS) for _ in range(_NUM_TIMES)]
    yield from max((list(_looks_at(rollout, time)) for time in times), key=len)


def _looks_at(rollout: Rollout, time: float) -> Iterator[Look]:
    colors = list(_boxes(rollout, time))
    for (subject, one), (other, two) in permutations(enumerate(colors), 2):
        at, seen_from = (rollout.state(color, time)[:2] for color in (one, two))
        answer = _ANSWERS.get(direction(at[0] - seen_from[0], at[1] - seen_from[1]))
        if not answer or not is_clearly_placed(*at) or not is_clearly_placed(*seen_from):
            continue
        positions = position_phrase(*at), position_phrase(*seen_from)
        # The parts must tell the answer: two in one column do not tell left from right.
        if positions in _REASONS[answer]:
            yield Look(
                template="where",
                type="where",
                text=f"where is {the(rollout, one)} seen from {the(rollout, two)}",
                answer=answer,
                balance_over=tuple(_ANSWERS.values()),
                time=time,
                subject=subject,
                other=other,
                positions=positions,
            )


def write_questions(
    folder: Path,
    split: str,
    rollouts: Mapping[str, Rollout],
    questions: Sequence[tuple[str, Look]],
    generator: random.Random,
) -> None:
    """Write ``<split>.jsonl``, and an image with its metadata for each video with a question.

    Args:
        folder: The corpus' folder, which is created.
        split: ``val`` or ``test``.
        rollouts: Video id -> what happens in it.
        questions: Balanced :func:`looks`, each with the id of its video.
        generator: Decides the order of choices, and which rationales are wrong ones.
    """
    right = Counter((look.answer, look.positions) for _, look in questions)
    by_video: dict[str, list[Look]] = defaultdict(list)
    for video_id, look in questions:
        by_video[video_id].append(look)
    rows: list[dict[str, Any]] = []
    for video_id, of_video in sorted(by_video.items()):
        time = of_video[0].time
        shared = _write_image(folder / "vcr1images", video_id, rollouts[video_id], time)
        for look in of_video:
            number = len(rows)
            # The labels run through all pairs: one says nothing about the other.
            labels = number % _NUM_CHOICES, (number + number // _NUM_CHOICES) % _NUM_CHOICES
            rows.append(
                {
                    **shared,
                    **_texts(look, labels, right, generator),
                    "img_id": f"{split}-{video_id}",
                    "annot_id": f"{split}-{number}",
                }
            )
    write_json_lines(folder / f"{split}.jsonl", rows)


def picture_instructions(
    rollout: Rollout, questions: Sequence[Look], generator: random.Random
) -> list[tuple[str, str]]:
    """Return prompts and responses about one picture: each question, and why its answer is right.

    They are those that VCR's reader makes of the written files.

    Args:
        rollout: What happens.
        questions: Some :func:`looks` of the rollout.
        generator: Decides the order of choices, and which rationales are wrong ones.
    """
    boxes = _boxes(rollout, questions[0].time) if questions else {}
    names = [f"[{name(rollout, color)}{number}]" for number, color in enumerate(boxes, start=1)]
    percents = [[round(100 * edge / FRAME_SIZE) for edge in box] for box in boxes.values()]
    drawn = []
    for look in questions:
        labels = generator.randrange(_NUM_CHOICES), generator.randrange(_NUM_CHOICES)
        texts = _texts(look, labels, Counter({(look.answer, look.positions): 1}), generator)
        question = _spelled(texts["question"], names)
        answers, rationales = (
            [_spelled(choice, names) for choice in texts[f"{kind}_choices"]]
            for kind in ("answer", "rationale")
        )
        answer, rationale = answers[labels[0]], rationales[labels[1]]
        # In the order of the objects, as the reader names boxes.
        located = {names[index]: percents[index] for index in sorted((look.subject, look.other))}
        why = f"{question}\nThe answer is: {answer}\nWhy?"
        for text, options, response in ((question, answers, answer), (why, rationales, rationale)):
            prompt = f"{boxes_text(located)}\n{multiple_choice_prompt(text, options)}"
            drawn.append((prompt, response))
    return drawn


def _spelled(tokens: Sequence[str | list[int]], names: Sequence[str]) -> str:
    """Return a text of VCR's tokens, with the names of the objects."""
    words = (token if isinstance(token, str) else names[token[0]] for token in tokens)
    return " ".join(words).replace(" ?", "?").replace(" .", ".")


def _write_image(images: Path, video_id: str, rollout: Rollout, time: float) -> dict[str, Any]:
    """Write the picture and its metadata; return the entries that all rows about it share."""
    stem = f"{_MOVIE}/{video_id}"
    boxes = _boxes(rollout, time)
    names = [name(rollout, color) for color in boxes]
    metadata = {
        # VCR's detections: four edges and a score, and outlines as lists of polygons.
        "boxes": [[*box, 1.0] for box in boxes.values()],
        "segms": [[_outline(*box)] for box in boxes.values()],
        "names": names,
        "width": FRAME_SIZE,
        "height": FRAME_SIZE,
    }
    write_json(images / f"{stem}.json", metadata)
    Image.fromarray(render_frame(rollout, time)).save(images / f"{stem}.jpg", quality=95)
    return {
        "movie": _MOVIE,
        "objects": names,
        "img_fn": f"{stem}.jpg",
        "metadata_fn": f"{stem}.json",
    }


def _texts(
    look: Look,
    labels: tuple[int, int],
    right: Counter[tuple[str, Positions]],
    generator: random.Random,
) -> dict[str, Any]:
    """Return question, answers and rationales of a row, as tokens; ``labels`` index the right."""
    subject, other = [look.subject], [look.other]
    answers = [answer for answer in _ANSWERS.values() if answer != look.answer]
    generator.shuffle(answers)
    answers.insert(labels[0], look.answer)
    reasons = _wrong_reasons(look, right, generator)
    reasons.insert(labels[1], look.positions)
    return {
        # VCR's tokens: words, and lists of the numbers of objects.
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
    look: Look, right: Counter[tuple[str, Positions]], generator: random.Random
) -> list[Positions]:
    """Return right positions of other questions with the same answer, then made-up ones."""
    # Drawn as often as they are right elsewhere, so that a text tells little of its truth.
    weights = {positions: n for (answer, positions), n in right.items() if answer == look.answer}
    weights.pop(look.positions)
    wrong: list[Positions] = []
    while weights and len(wrong) < _NUM_CHOICES - 1:
        (drawn,) = generator.choices(list(weights), list(weights.values()))
        weights.pop(drawn)
        wrong.append(drawn)
    made_up = [p for p in _REASONS[look.answer] if p != look.positions and p not in wrong]
    return wrong + generator.sample(made_up, _NUM_CHOICES - 1 - len(wrong))


def _reasons() -> dict[str, list[Positions]]:
    """Return the positions that are a reason for each answer."""
    points = [(x, y) for y in _CENTRES for x in _CENTRES]
    reasons: dict[str, list[Positions]] = {direction: [] for direction in _ANSWERS.values()}
    for x, y in points:
        for other_x, other_y in points:
            both = position_phrase(x, y), position_phrase(other_x, other_y)
            # A pair may be a reason for an answer on each axis.
            if x != other_x:
                reasons["to the left" if x < other_x else "to the right"].append(both)
            if y != other_y:
                reasons["above" if y < other_y else "below"].append(both)
    return reasons


_REASONS = _reasons()


def _boxes(rollout: Rollout, time: float) -> dict[str, tuple[float, float, float, float]]:
    """Edges in pixels of each visible object, by colour: left, top, right, bottom."""
    boxes = {}
    for color, mask in render_masks(rollout, time).items():
        rows, columns = np.nonzero(mask)
        boxes[color] = (
            float(columns.min()),
            float(rows.min()),
            float(columns.max() + 1),  # after the last pixel
            float(rows.max() + 1),
        )
    return boxes


def _outline(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]
