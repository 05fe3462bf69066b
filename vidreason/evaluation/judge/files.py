"""Files that the judge reads beside predictions: evidence, and the judgements of other judges."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vidreason.evaluation.judge.rubric import AXES, MAX_SCORE, MIN_SCORE, Axis
from vidreason.evaluation.predictions.row_files import read_json
from vidreason.json_object import shown

_EVIDENCE_KEYS = {"id": "id", "video": "video_id"}


def read_evidence(path: str) -> dict[str, str]:
    """Evidence by ``id:QUESTION`` or ``video:VIDEO``.

    Raises:
        ValueError: A line is of another form; the message names file and line.
    """
    evidence: dict[str, str] = {}
    for location, row in json_lines(path):
        keys = [
            f"{kind}:{_id(row[name], name, location)}"
            for kind, name in _EVIDENCE_KEYS.items()
            if name in row
        ]
        if len(keys) != 1 or not isinstance(row.get("evidence"), str):
            raise ValueError(
                f"{location}: expected a text 'evidence' and one of 'id' and 'video_id'"
            )
        if keys[0] in evidence:
            raise ValueError(f"{location}: there is evidence for {shown(keys[0])} already")
        evidence[keys[0]] = row["evidence"]
    return evidence


def read_scores(path: str) -> dict[Axis, dict[str, int]]:
    """Scores of a ``judgements.jsonl``, by axis and question.

    Raises:
        ValueError: A line is of another form; the message names file and line.
    """
    by_axis: dict[Axis, dict[str, int]] = {axis: {} for axis in AXES}
    for location, row in json_lines(path):
        name, scores = _id(row.get("id"), "id", location), row.get("scores")
        if not isinstance(scores, Mapping):
            raise ValueError(
                f"{location}: scores is {shown(scores)}, expected an object of scores by axis, as "
                "experiments.judge writes without against and with protocol=axes"
            )
        for axis in AXES:
            # Without evidence, factual grounding was not judged.
            if axis not in scores:
                continue
            score = scores[axis]
            # True is an int in Python.
            if type(score) is not int or not MIN_SCORE <= score <= MAX_SCORE:
                raise ValueError(
                    f"{location}: scores.{axis} is {shown(score)}, expected a whole number from "
                    f"{MIN_SCORE} to {MAX_SCORE}"
                )
            if name in by_axis[axis]:
                raise ValueError(f"{location}: there is a score of {shown(name)} already")
            by_axis[axis][name] = score
    return by_axis


def json_lines(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """``FILE:LINE`` and the object of each line; blank lines are left out.

    Raises:
        ValueError: There is no such file, or a line is no object; the message names file and line.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path!r} (looked in {Path.cwd()})")
    with Path(path).open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                location = f"{path}:{number}"
                row = read_json(line, location)
                if not isinstance(row, dict):
                    raise ValueError(f"{location}: {shown(row)}, not an object")
                yield location, row


def _id(value: object, name: str, location: str) -> str:
    """An id, which some write as a number."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{location}: {name} is {shown(value)}, expected a text")
    return str(value)
