"""VCR, Visual Commonsense Reasoning: a still image, four answers, four rationales.

The image stands where a video stands: it is read as a video of one frame. The paper speaks of the
centre frame of a video; the release has images only.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from data_modules.example_kinds import choice_example
from data_modules.files import Files
from data_modules.json_files import read_json_lines, read_json_object
from data_modules.multiple_choice import right_option
from data_modules.rows import Row
from data_modules.skipped_rows import SkippedRows, examples_of
from vidreason.example import Example
from vidreason.reasoning.prompts import boxes_text, multiple_choice_prompt

NUM_CHOICES = 4  # answers, and rationales, of a question
_KINDS = ("answer", "rationale")
_CHOICE_NUMBERS = tuple(map(str, range(NUM_CHOICES)))
_IMAGES = "vcr1images"
_MAX_PIXELS = 1e6  # no picture has a coordinate beyond
_BEFORE_SPACE = re.compile(r" ([,.?!;:%)\]]|n't\b|'(?:s|re|ve|ll|d|m)\b)")


def read_vcr(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
    """Yield two examples a row, Q->A and QA->R, which share their ``group_id``.

    Layout: ``<root>/<split>.jsonl``, or below ``vcr1annots``, and ``<root>/vcr1images/<img_fn>``,
    with the boxes of the image's objects in ``<root>/vcr1images/<metadata_fn>``. The tokens of a
    text are words and lists of indices of ``objects``; an index becomes ``[person1]``, the object's
    class and its number, counted from 1 over all objects of the image; one that is out of range
    (there are some) ``[object9]``. The boxes of the objects that a row speaks of are kept in
    ``meta["boxes"]``, as JSON: name -> ``[left, top, right, bottom]`` in pixels; a prompt begins
    with the boxes of the objects in it, in percent of the image, because a name alone does not say
    which person is meant. The rationale is asked for with the right answer; where labels are hidden
    (test), once with each of the four, which are told apart by the end of their ids. Blank tokens
    are passed over. A row with one of its two labels, or with a damaged metadata file, is
    malformed.

    Raises:
        ValueError: The file is missing or wrong as a whole.
    """
    # A file of boxes for each image: too many to record one by one.
    files.record_tree(_IMAGES, ".json")
    # The questions about one image follow each other.
    image_of = lru_cache(maxsize=1)(lambda name: _image_boxes(files, name))

    def make(row: Row) -> Iterator[Example]:
        return _row_examples(row, split, str(files.path(_IMAGES)), image_of)

    path = files.first(f"{split}.jsonl", f"vcr1annots/{split}.jsonl")
    rows = read_json_lines(files, path, skipped)
    yield from examples_of(rows, make, skipped, named_by=("annot_id",), unique=True)


def _row_examples(
    row: Row, split: str, images: str, image_of: "Callable[[str], _ImageBoxes]"
) -> Iterator[Example]:
    objects = row.texts("objects")
    question = _sentence(row.get("question"), objects, "question", row)
    answers, rationales = (_choices(row, f"{kind}_choices", objects) for kind in _KINDS)
    answer_label, rationale_label = _labels(row)
    annotation_id = row.id("annot_id")
    shared: dict[str, Any] = {
        "media": f"{images}/{row.required('img_fn')}",
        "video_id": row.id("img_id"),
        "group_id": annotation_id,
    }
    meta = {"question": question, "movie": row.required("movie")}
    try:
        image = image_of(row.required("metadata_fn"))
    except ValueError as error:
        raise row.malformed(f"its metadata file is damaged: {error}") from error
    # Boxes that the row speaks of, in pixels in meta and in percent in prompts.
    boxes = _boxes_of_tokens(image.boxes, objects, row)
    if boxes:
        meta["boxes"] = json.dumps(boxes)
    located = {name: image.percent(box) for name, box in boxes.items() if image.size}

    def example(
        kind: str, suffix: str, text: str, options: tuple[str, ...], label: int | None
    ) -> Example:
        prompt = multiple_choice_prompt(text, options)
        # Only boxes of what the prompt speaks of.
        shown = {name: box for name, box in located.items() if name in prompt}
        return choice_example(
            text,
            options,
            label,
            prompt=f"{boxes_text(shown)}\n{prompt}" if shown else prompt,
            meta=meta,
            id=f"vcr:{split}:{annotation_id}:{kind}{suffix}",
            question_type=kind,
            **shared,
        )

    # Q->A, then QA->R with the right answer, or with each where labels are hidden.
    yield example("answer", "", question, answers, answer_label)
    for index in range(NUM_CHOICES) if answer_label is None else (answer_label,):
        suffix = f"_given_{index}" if answer_label is None else ""
        why = f"{question}\nThe answer is: {answers[index]}\nWhy?"
        yield example("rationale", suffix, why, rationales, rationale_label)


def object_name(objects: Sequence[str], number: int) -> str:
    """The name of an object in texts: ``[person1]`` for the first."""
    kind = objects[number] if 0 <= number < len(objects) else "object"
    return f"[{kind}{number + 1}]"


def _sentence(tokens: object, objects: Sequence[str], field: str, row: Row) -> str:
    """Tokens as a text: objects by their names, no space before punctuation."""
    words = []
    for token in tokens if isinstance(tokens, list) else [None]:
        if isinstance(token, str):
            words.append(token.strip())
        elif isinstance(token, list) and all(type(index) is int for index in token):  # no bool
            names = [object_name(objects, index) for index in token]
            words.append(" and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]])))
        else:
            raise row.malformed(
                f"field {field!r} must be a list of words and of lists of indices of 'objects', "
                f"found {tokens!r:.200}"
            )
    text = _BEFORE_SPACE.sub(r"\1", " ".join(filter(None, words)))
    if not text:
        raise row.malformed(f"field {field!r} is empty, found {tokens!r:.200}")
    return text


def _choices(row: Row, name: str, objects: Sequence[str]) -> tuple[str, ...]:
    choices = row.get(name)
    if not isinstance(choices, list) or len(choices) != NUM_CHOICES:
        raise row.malformed(
            f"field {name!r} must be a list of {NUM_CHOICES} texts, found {choices!r:.200}"
        )
    return tuple(_sentence(choice, objects, name, row) for choice in choices)


def _labels(row: Row) -> tuple[int | None, int | None]:
    """Indices of the right answer and rationale, both or neither."""
    answer, rationale = (
        right_option(row, f"{kind}_label", _CHOICE_NUMBERS, "index") for kind in _KINDS
    )
    if (answer is None) != (rationale is None):
        raise row.malformed("one of the fields 'answer_label' and 'rationale_label' is missing")
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


def _boxes_of_tokens(
    boxes: list[list[float]], objects: Sequence[str], row: Row
) -> dict[str, list[float]]:
    """Boxes of the objects that the row's question, answers and rationales speak of."""
    texts = [row["question"], *row["answer_choices"], *row["rationale_choices"]]
    named = {
        index for text in texts for token in text if isinstance(token, list) for index in token
    }
    return {
        object_name(objects, index): boxes[index]
        for index in sorted(named)
        if 0 <= index < len(boxes)
    }


def _image_boxes(files: Files, name: str) -> _ImageBoxes:
    """The boxes of an image, in a file whose name a row gives."""
    if ".." in name.split("/") or name.startswith("/"):
        raise ValueError(f"{name!r:.200} lies outside of {files.path(_IMAGES)}")
    path = files.path(_IMAGES, name)
    if not files.exists(path):
        return _ImageBoxes([], None)
    metadata = read_json_object(files, path)
    boxes = metadata.get("boxes")
    if not isinstance(boxes, list) or not all(
        isinstance(box, list) and len(box) >= 4 and all(map(_is_pixels, box[:4])) for box in boxes
    ):
        raise ValueError(f"{path}: expected 'boxes', a list of [left, top, right, bottom, ...]")
    size: Any = (metadata.get("width"), metadata.get("height"))
    is_size = all(_is_pixels(edge) and edge > 0 for edge in size)
    pixels = [[float(edge) for edge in box[:4]] for box in boxes]
    return _ImageBoxes(pixels, size if is_size else None)


def _is_pixels(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return type(value) in (int, float) and abs(value) < _MAX_PIXELS
