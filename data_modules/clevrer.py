"""CLEVRER: what is seen, why it happened, what follows, and what would have been otherwise."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from data_modules.example_kinds import choice_example, open_ended_example
from data_modules.files import Files
from data_modules.json_files import read_json_array
from data_modules.rows import Row
from data_modules.skipped_rows import SkippedRows, examples_of, expanded
from data_modules.video_files import VideoFolder
from vidreason.example import Example
from vidreason.reasoning.prompts import yes_no_prompt

QUESTION_TYPES = ("descriptive", "explanatory", "predictive", "counterfactual")
YES_NO = ("yes", "no")
_FILE_NAMES = {"train": "train", "val": "validation", "test": "test"}
_FOLDER_SIZE = 1000  # videos in a folder of the release
_NUM_LOOKED_AT = 100
"""Questions by which it is decided whether a file hides its answers."""


def read_clevrer(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
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
    name = _FILE_NAMES.get(split, split)
    path = files.first(f"questions/{name}.json", f"{name}.json")
    folders = (f"videos/{name}/", f"videos/{split}/", f"video_{name}/", "videos/", "")
    # The questions about one video follow each other.
    find = lru_cache(maxsize=1)(VideoFolder(files, ".").find)

    def rows(skipped: SkippedRows) -> Iterator[Row]:
        return expanded(read_json_array(files, path, skipped), _questions, skipped)

    first = islice(rows(SkippedRows.uncounted()), _NUM_LOOKED_AT)
    has_answers = any(map(_is_answered, first))

    def make(question: Row) -> list[Example]:
        scene = _scene_index(question)
        file = question.required("video_filename")
        # The archives have a folder for each thousand videos.
        first = scene // _FOLDER_SIZE * _FOLDER_SIZE
        parts = (f"video_{first:05d}-{first + _FOLDER_SIZE:05d}/", "")
        media = find(*(f"{folder}{part}{file}" for folder in folders for part in parts))
        examples = list(_examples(question, split, scene, media))
        for example in examples:
            question.check_answered("answer", bool(example.response), in_others=has_answers)
        return examples

    named_by = ("scene_index", "question_id")
    yield from examples_of(rows(skipped), make, skipped, named_by=named_by, unique=True)


def _questions(scene: Row) -> Iterator[Row]:
    """The questions about a scene, with its fields."""
    shared = {name: scene.get(name) for name in ("scene_index", "video_filename")}
    return (question.adding(shared) for question in scene.objects("questions"))


def _is_answered(question: Row) -> bool:
    choices = question.get("choices")
    holders = choices if isinstance(choices, list) else [question]
    return any(isinstance(one, dict) and one.get("answer") not in (None, "") for one in holders)


def _scene_index(question: Row) -> int:
    value = question["scene_index"]
    text = value.strip() if isinstance(value, str) else str(value)
    if not text.isdecimal():
        raise question.malformed(
            f"field 'scene_index' must be a whole number, found {value!r:.200}"
        )
    return int(text)


def _examples(question: Row, split: str, scene_index: int, media: str) -> Iterator[Example]:
    kind = question.text("question_type").casefold()
    if kind not in QUESTION_TYPES:
        raise question.malformed(
            f"field 'question_type' must be one of {', '.join(QUESTION_TYPES)}, found "
            f"{question.get('question_type')!r:.200}"
        )
    text = question.question()
    group_id = f"{scene_index}_{question.id('question_id')}"
    shared = {
        **{"media": media, "video_id": str(scene_index)},
        **{"question_type": kind, "group_id": group_id},
    }
    # Descriptive questions are open-ended; of the others each choice is a yes/no question.
    if kind == "descriptive":
        answer = question.number_or_text("answer")
        yield open_ended_example(text, answer, id=f"clevrer:{split}:{group_id}", **shared)
        return
    choices = question.objects("choices")
    if not choices:
        raise question.malformed("field 'choices' is empty")
    for choice in choices:
        answer, statement = choice.number_or_text("answer").casefold(), choice.required("choice")
        if answer not in ("correct", "wrong", ""):
            raise choice.malformed(
                f"field 'answer' of a choice must be 'correct' or 'wrong', found {answer!r:.200}"
            )
        # of YES_NO; hidden in the test split
        index = None if not answer else int(answer == "wrong")
        yield choice_example(
            text,
            YES_NO,
            index,
            prompt=yes_no_prompt(text, statement),
            meta={"choice": statement},
            id=f"clevrer:{split}:{group_id}_{choice.id('choice_id')}",
            **shared,
        )
