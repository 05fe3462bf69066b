"""CLEVRER: what is seen, why it happened, what follows, and what would have been otherwise."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.annotation_files import id_field, is_nan_like, required_text, text_field
from data_modules.index_cache import note_folder
from data_modules.json_files import read_json_array
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
from vidreason.reasoning.prompts import open_ended_prompt, yes_no_prompt

QUESTION_TYPES = ("descriptive", "explanatory", "predictive", "counterfactual")
YES_NO = ("yes", "no")
_FILE_NAMES = {"train": "train", "val": "validation", "test": "test"}
_FOLDER_SIZE = 1000


def read_clevrer(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield an open-ended example a descriptive question, and a yes/no one an option of the others.

    Layout: ``<root>/questions/<split>.json`` (``val`` is ``validation.json``) and the videos below
    ``<root>/videos/<split>``, ``<root>/videos/val`` or ``<root>/video_<split>`` (as the official
    archives unpack) in folders of a thousand: ``video_10000-11000/video_10000.mp4``. The options of
    one question are each right or wrong, any number of them; they share their ``group_id``. An id
    ends with scene, question and choice: ``10000_11_0``. Without answers in the file (test) the
    references are hidden. Nothing is ever left out.

    Raises:
        ValueError: The file is missing or malformed, a question has an unknown type or no choices,
            or only some questions have answers.
    """
    path = Path(root, "questions", f"{_FILE_NAMES.get(split, split)}.json")
    folder = _video_folder(Path(root), split)
    has_answers: bool | None = None
    for place, scene in read_json_array(path):
        scene_index = scene.get("scene_index")
        if type(scene_index) is not int or scene_index < 0:
            raise ValueError(
                f"{place}: field 'scene_index' must be a whole number, found {scene_index!r:.200}"
            )
        name = required_text(scene, "video_filename", place)
        media = str(folder / _part_folder(scene_index) / name)
        for question in _objects(scene, "questions", place, may_be_empty=True):
            for example, answer in _examples(question, split, scene_index, media, place):
                if has_answers is None:
                    has_answers = bool(answer)
                if has_answers != bool(answer):
                    raise ValueError(
                        f"{place}: some questions have an 'answer' and others none; answers are "
                        "there or hidden for a whole split"
                    )
                yield example


def _examples(
    question: dict[str, Any], split: str, scene_index: int, media: str, place: str
) -> Iterator[tuple[Example, str]]:
    """The examples of a question, each with its answer in the file."""
    kind = question.get("question_type")
    if kind not in QUESTION_TYPES:
        raise ValueError(
            f"{place}: field 'question_type' must be one of {', '.join(QUESTION_TYPES)}, found "
            f"{kind!r:.200}"
        )
    text = required_text(question, "question", place)
    if is_nan_like(text):
        raise ValueError(f"{place}: field 'question' is {text!r}, which is no question")
    group_id = f"{scene_index}_{id_field(question, 'question_id', place)}"
    if kind == "descriptive":
        answer = text_field(question, "answer", place)
        yield (
            Example(
                id=f"clevrer:{split}:{group_id}",
                corpus="clevrer",
                media=media,
                video_id=str(scene_index),
                prompt=open_ended_prompt(text),
                response=answer,
                answers=(answer,) if answer else (),
                question_type=kind,
                group_id=group_id,
                meta={"question": text},
            ),
            answer,
        )
        return
    for choice in _objects(question, "choices", place):
        answer, told = text_field(choice, "answer", place), required_text(choice, "choice", place)
        if answer not in ("correct", "wrong", ""):
            raise ValueError(
                f"{place}: field 'answer' of a choice must be 'correct' or 'wrong', found "
                f"{answer!r:.200}"
            )
        index = None if not answer else int(answer == "wrong")
        yield (
            Example(
                id=f"clevrer:{split}:{group_id}_{id_field(choice, 'choice_id', place)}",
                corpus="clevrer",
                media=media,
                video_id=str(scene_index),
                prompt=yes_no_prompt(text, told),
                response="" if index is None else YES_NO[index],
                options=YES_NO,
                answer_index=index,
                answers=() if index is None else (YES_NO[index],),
                question_type=kind,
                group_id=group_id,
                meta={"question": text, "choice": told},
            ),
            answer,
        )


def _objects(
    holder: dict[str, Any], name: str, place: str, *, may_be_empty: bool = False
) -> list[dict[str, Any]]:
    items = holder.get(name)
    if (
        not isinstance(items, list)
        or not (items or may_be_empty)
        or not all(isinstance(item, dict) for item in items)
    ):
        raise ValueError(f"{place}: field {name!r} must be a list of objects, found {items!r:.200}")
    return items


def _video_folder(root: Path, split: str) -> Path:
    """The folder of a split's videos: of the names that are in use, the first that is there."""
    name = _FILE_NAMES.get(split, split)
    folders = [root / "videos" / name, root / "videos" / split, root / f"video_{name}"]
    for folder in (root, root / "videos"):
        note_folder(folder)
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _part_folder(scene_index: int) -> str:
    first = scene_index // _FOLDER_SIZE * _FOLDER_SIZE
    return f"video_{first:05d}-{first + _FOLDER_SIZE:05d}"
