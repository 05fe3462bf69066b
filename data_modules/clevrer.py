"""CLEVRER: what is seen, why it happened, what follows, and what would have been otherwise."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from data_modules.annotation_files import (
    first_file,
    id_field,
    is_nan_like,
    required_text,
    text_field,
)
from data_modules.json_files import read_json_array
from data_modules.skipped_rows import MalformedRowError, SkippedRows, examples_of
from data_modules.video_files import VideoFolder
from vidreason.example import Example
from vidreason.reasoning.prompts import open_ended_prompt, yes_no_prompt

QUESTION_TYPES = ("descriptive", "explanatory", "predictive", "counterfactual")
YES_NO = ("yes", "no")
_FILE_NAMES = {"train": "train", "val": "validation", "test": "test"}
_FOLDER_SIZE = 1000
_NUM_LOOKED_AT = 100
"""Questions by which it is decided whether a file hides its answers."""


def read_clevrer(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield an open-ended example a descriptive question, and a yes/no one an option of the others.

    Layout: ``<root>/questions/<split>.json`` (``val`` is ``validation.json``), or without
    ``questions``, and the videos below ``<root>/videos/<split>``, ``<root>/videos/val``,
    ``<root>/video_<split>``, ``<root>/videos`` or ``<root>`` (as archives are unpacked) in folders
    of a thousand: ``video_10000-11000/video_10000.mp4``, or without them. The options of one
    question are each right or wrong, any number of them; they share their ``group_id``. An id ends
    with scene, question and choice: ``10000_11_0``. Without answers in the file (test) the
    references are hidden. Copies have numbers as texts and the reverse, answers in capitals, and
    scenes without questions. A question is malformed with each of its options, but not the other
    questions of its scene.

    Raises:
        ValueError: The file is missing or wrong as a whole.
    """
    skipped = SkippedRows() if skipped is None else skipped
    name = _FILE_NAMES.get(split, split)
    path = first_file(Path(root, "questions", f"{name}.json"), Path(root, f"{name}.json"))
    folders = (f"videos/{name}/", f"videos/{split}/", f"video_{name}/", "videos/", "")
    # The questions about one video follow each other.
    find = lru_cache(maxsize=1)(VideoFolder(Path(root)).find)
    has_answers = any(map(_is_answered, islice(_questions(path, None), _NUM_LOOKED_AT)))

    def make(place: str, question: dict[str, Any]) -> list[Example]:
        scene = _scene_index(question, place)
        file = required_text(question, "video_filename", place)
        parts = (f"{_part_folder(scene)}/", "")
        media = find(*(f"{folder}{part}{file}" for folder in folders for part in parts))
        examples = list(_examples(question, split, scene, media, place))
        if any(bool(example.response) != has_answers for example in examples):
            raise MalformedRowError(
                place,
                "field 'answer' is missing or empty, in other questions it is not"
                if has_answers
                else "field 'answer' is there, in other questions it is hidden",
            )
        return examples

    rows = _questions(path, skipped)
    yield from examples_of(
        rows, make, skipped, named_by=("scene_index", "question_id"), unique=True
    )


def _questions(path: Path, skipped: SkippedRows | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each question, with the fields of its scene. None counts nothing: all is read once more."""
    if skipped is None:
        skipped = SkippedRows(max_malformed_fraction=1.0, quiet=True)
    for place, scene in read_json_array(path, skipped):
        try:
            questions = _objects(scene, "questions", place, may_be_empty=True)
        except MalformedRowError as error:
            skipped.record_malformed(error)
            continue
        shared = {name: scene.get(name) for name in ("scene_index", "video_filename")}
        yield from ((place, question | shared) for question in questions)


def _is_answered(row: tuple[str, dict[str, Any]]) -> bool:
    _, question = row
    choices = question.get("choices")
    holders = choices if isinstance(choices, list) else [question]
    return any(isinstance(one, dict) and one.get("answer") not in (None, "") for one in holders)


def _scene_index(question: dict[str, Any], place: str) -> int:
    value = question["scene_index"]
    text = value.strip() if isinstance(value, str) else str(value)
    if not text.isdecimal():
        raise MalformedRowError(
            place, f"field 'scene_index' must be a whole number, found {value!r:.200}"
        )
    return int(text)


def _examples(
    question: dict[str, Any], split: str, scene_index: int, media: str, place: str
) -> Iterator[Example]:
    kind = text_field(question, "question_type", place).casefold()
    if kind not in QUESTION_TYPES:
        raise MalformedRowError(
            place,
            f"field 'question_type' must be one of {', '.join(QUESTION_TYPES)}, found "
            f"{question.get('question_type')!r:.200}",
        )
    text = required_text(question, "question", place)
    if is_nan_like(text):
        raise MalformedRowError(place, f"field 'question' is {text!r}, which is no question")
    group_id = f"{scene_index}_{id_field(question, 'question_id', place)}"
    shared: dict[str, Any] = {
        **{"corpus": "clevrer", "media": media, "video_id": str(scene_index)},
        **{"question_type": kind, "group_id": group_id},
    }
    if kind == "descriptive":
        answer = _told(question, place)
        yield Example(
            id=f"clevrer:{split}:{group_id}",
            prompt=open_ended_prompt(text),
            response=answer,
            answers=(answer,) if answer else (),
            meta={"question": text},
            **shared,
        )
        return
    for choice in _objects(question, "choices", place):
        answer, told = _told(choice, place).casefold(), required_text(choice, "choice", place)
        if answer not in ("correct", "wrong", ""):
            raise MalformedRowError(
                place,
                f"field 'answer' of a choice must be 'correct' or 'wrong', found {answer!r:.200}",
            )
        index = None if not answer else int(answer == "wrong")
        yield Example(
            id=f"clevrer:{split}:{group_id}_{id_field(choice, 'choice_id', place)}",
            prompt=yes_no_prompt(text, told),
            response="" if index is None else YES_NO[index],
            options=YES_NO,
            answer_index=index,
            answers=() if index is None else (YES_NO[index],),
            meta={"question": text, "choice": told},
            **shared,
        )


def _told(holder: dict[str, Any], place: str) -> str:
    """The answer; a count may be a number. Empty where it is hidden."""
    value = holder.get("answer")
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_count else text_field(holder, "answer", place)


def _objects(
    holder: dict[str, Any], name: str, place: str, *, may_be_empty: bool = False
) -> list[dict[str, Any]]:
    items = holder.get(name)
    if (
        not isinstance(items, list)
        or not (items or may_be_empty)
        or not all(isinstance(item, dict) for item in items)
    ):
        raise MalformedRowError(
            place, f"field {name!r} must be a list of objects, found {items!r:.200}"
        )
    return items


def _part_folder(scene_index: int) -> str:
    first = scene_index // _FOLDER_SIZE * _FOLDER_SIZE
    return f"video_{first:05d}-{first + _FOLDER_SIZE:05d}"
