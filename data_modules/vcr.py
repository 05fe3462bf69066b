"""VCR, Visual Commonsense Reasoning: a still image, four answers, four rationales.

The image stands where a video stands: it is read as a video of one frame. The paper speaks of the
centre frame of a video; the release has images only.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from data_modules.annotation_files import check_text, first_file, id_field, required_text
from data_modules.index_cache import note_folder
from data_modules.json_files import read_json, read_json_lines
from data_modules.multiple_choice import right_option
from data_modules.skipped_rows import MalformedRowError, SkippedRows, examples_of
from vidreason.example import Example
from vidreason.reasoning.prompts import boxes_text, multiple_choice_prompt

NUM_CHOICES = 4
_CHOICE_NUMBERS = tuple(map(str, range(NUM_CHOICES)))
_IMAGES = "vcr1images"
_MAX_PIXELS = 1e6
_BEFORE_SPACE = re.compile(r" ([,.?!;:%)\]]|n't\b|'(?:s|re|ve|ll|d|m)\b)")


def read_vcr(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield two examples a row, Q->A and QA->R, which share their ``group_id``.

    Layout: ``<root>/<split>.jsonl``, or below ``vcr1annots``, and ``<root>/vcr1images/<img_fn>``,
    with the boxes of the image's objects in ``<root>/vcr1images/<metadata_fn>``. The tokens of a
    text are words and lists of places in ``objects``; a place becomes ``[person1]``, the object's
    class and its number, counted from 1 over all objects of the image; one that is out of range
    (there are some) ``[object9]``. The boxes of the objects that a row speaks of are kept in
    ``meta["boxes"]``, as JSON: name -> ``[left, top, right, bottom]`` in pixels; a prompt begins
    with the boxes of its own objects, in percent of the image, because a name alone does not say
    which person is meant. The rationale is asked for with the right answer; where labels are hidden
    (test), once with each of the four, which are told apart by the end of their ids. Blank tokens
    are passed over. A row with one of its two labels, or with a damaged metadata file, is
    malformed.

    Raises:
        ValueError: The file is missing or wrong as a whole.
    """
    skipped = SkippedRows() if skipped is None else skipped
    images = Path(root, _IMAGES)
    note_folder(images)
    path = first_file(Path(root, f"{split}.jsonl"), Path(root, "vcr1annots", f"{split}.jsonl"))
    rows = read_json_lines(path, skipped)
    make = partial(_row_examples, split, images)
    yield from examples_of(rows, make, skipped, named_by=("annot_id",), unique=True)


def _row_examples(split: str, images: Path, place: str, row: dict[str, Any]) -> Iterator[Example]:
    objects = row.get("objects")
    if not isinstance(objects, list) or not all(isinstance(one, str) for one in objects):
        raise MalformedRowError(
            place, f"field 'objects' must be a list of texts, found {objects!r:.200}"
        )
    objects = [one.strip() for one in objects]
    question = _spoken(row.get("question"), objects, "question", place)
    answers, rationales = (
        _choices(row, f"{kind}_choices", objects, place) for kind in ("answer", "rationale")
    )
    answer_label, rationale_label = _labels(row, place)
    annotation_id = id_field(row, "annot_id", place)
    shared: dict[str, Any] = {
        "corpus": "vcr",
        "media": str(images / required_text(row, "img_fn", place)),
        "video_id": id_field(row, "img_id", place),
        "group_id": annotation_id,
    }
    meta = {"question": question, "movie": required_text(row, "movie", place)}
    image = _boxes_of(images / required_text(row, "metadata_fn", place), place)
    boxes = _spoken_boxes(image.boxes, objects, row)
    if boxes:
        meta["boxes"] = json.dumps(boxes)
    located = {one: image.percent(box) for one, box in boxes.items() if image.size}
    name = f"vcr:{split}:{annotation_id}"
    yield _example(f"{name}:answer", question, answers, answer_label, located, shared, meta)
    known = range(NUM_CHOICES) if answer_label is None else (answer_label,)
    for given in known:
        asked = f"{question}\nThe answer is: {answers[given]}\nWhy?"
        suffix = f"_given_{given}" if answer_label is None else ""
        own = f"{name}:rationale{suffix}"
        yield _example(own, asked, rationales, rationale_label, located, shared, meta)


def _example(
    name: str,
    question: str,
    options: tuple[str, ...],
    label: int | None,
    located: dict[str, tuple[int, ...]],
    shared: dict[str, Any],
    meta: dict[str, str],
) -> Example:
    response = "" if label is None else options[label]
    prompt = multiple_choice_prompt(question, options)
    own_boxes = {one: box for one, box in located.items() if one in prompt}
    return Example(
        id=name,
        prompt=f"{boxes_text(own_boxes)}\n{prompt}" if own_boxes else prompt,
        response=response,
        options=options,
        answer_index=label,
        answers=(response,) if response else (),
        question_type=name.rpartition(":")[2].partition("_")[0],
        meta=meta,
        **shared,
    )


def object_name(objects: Sequence[str], number: int) -> str:
    """How a text names the object at place ``number``: ``[person1]`` for the first."""
    kind = objects[number] if 0 <= number < len(objects) else "object"
    return f"[{kind}{number + 1}]"


def _spoken(tokens: object, objects: Sequence[str], field: str, place: str) -> str:
    """Tokens as a text: objects by their names, no space before punctuation."""
    words = []
    for token in tokens if isinstance(tokens, list) else [None]:
        if isinstance(token, str):
            check_text(token, field, place)
            words.append(token.strip())
        elif isinstance(token, list) and all(type(one) is int for one in token):
            names = [object_name(objects, number) for number in token]
            words.append(" and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]])))
        else:
            raise MalformedRowError(
                place,
                f"field {field!r} must be a list of words and of lists of places in 'objects', "
                f"found {tokens!r:.200}",
            )
    text = _BEFORE_SPACE.sub(r"\1", " ".join(filter(None, words)))
    if not text:
        raise MalformedRowError(place, f"field {field!r} is empty, found {tokens!r:.200}")
    return text


def _choices(row: dict[str, Any], name: str, objects: Sequence[str], place: str) -> tuple[str, ...]:
    choices = row.get(name)
    if not isinstance(choices, list) or len(choices) != NUM_CHOICES:
        raise MalformedRowError(
            place, f"field {name!r} must be a list of {NUM_CHOICES} texts, found {choices!r:.200}"
        )
    return tuple(_spoken(choice, objects, name, place) for choice in choices)


def _labels(row: dict[str, Any], place: str) -> tuple[int | None, int | None]:
    """The places of the right answer and rationale, both or neither."""
    answer, rationale = (
        right_option(row.get(name), _CHOICE_NUMBERS, "index", name, place)
        for name in ("answer_label", "rationale_label")
    )
    if (answer is None) != (rationale is None):
        raise MalformedRowError(
            place, "one of the fields 'answer_label' and 'rationale_label' is missing"
        )
    return answer, rationale


class _ImageBoxes(NamedTuple):
    """The boxes of an image's objects in pixels; none without the metadata file."""

    boxes: list[list[float]]
    size: tuple[float, float] | None
    """Width and height in pixels; None where the file does not say."""

    def percent(self, box: Sequence[float]) -> tuple[int, ...]:
        """A box in percent of the image."""
        assert self.size is not None
        return tuple(
            round(100 * edge / whole) for edge, whole in zip(box, self.size * 2, strict=True)
        )


def _spoken_boxes(
    boxes: list[list[float]], objects: Sequence[str], row: dict[str, Any]
) -> dict[str, list[float]]:
    """Boxes of the objects that the row's question, answers and rationales speak of."""
    texts = [row["question"], *row["answer_choices"], *row["rationale_choices"]]
    spoken = {one for text in texts for token in text if isinstance(token, list) for one in token}
    return {
        object_name(objects, number): boxes[number]
        for number in sorted(spoken)
        if 0 <= number < len(boxes)
    }


def _boxes_of(path: Path, place: str) -> _ImageBoxes:
    try:
        return _image_boxes(path)
    except ValueError as error:
        raise MalformedRowError(place, f"its metadata file is damaged: {error}") from error


@lru_cache(maxsize=1)  # the questions about one image follow each other
def _image_boxes(path: Path) -> _ImageBoxes:
    if not os.path.exists(path):  # also a name that no file can have
        return _ImageBoxes([], None)
    metadata = read_json(path)
    boxes = metadata.get("boxes") if isinstance(metadata, dict) else None
    if not isinstance(boxes, list) or not all(
        isinstance(box, list) and len(box) >= 4 and all(map(_is_pixels, box[:4])) for box in boxes
    ):
        raise ValueError(f"{path}: expected 'boxes', a list of [left, top, right, bottom, ...]")
    width, height = (metadata.get(name) for name in ("width", "height"))
    is_size = all(_is_pixels(edge) and edge > 0 for edge in (width, height))
    pixels = [[float(edge) for edge in box[:4]] for box in boxes]
    return _ImageBoxes(pixels, (width, height) if is_size else None)


def _is_pixels(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return type(value) in (int, float) and abs(value) < _MAX_PIXELS
