"""VCR, Visual Commonsense Reasoning: a still image, four answers, four rationales.

The image stands where a video stands: it is read as a video of one frame. The paper speaks of the
centre frame of a video; the release has images only.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from data_modules.annotation_files import id_field, required_text
from data_modules.index_cache import note_folder
from data_modules.json_files import read_json, read_json_lines
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
from vidreason.reasoning.prompts import boxes_text, multiple_choice_prompt

NUM_CHOICES = 4
_IMAGES = "vcr1images"
_BEFORE_SPACE = re.compile(r" ([,.?!;:%)\]]|n't\b|'(?:s|re|ve|ll|d|m)\b)")


def read_vcr(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield two examples a row, Q->A and QA->R, which share their ``group_id``.

    Layout: ``<root>/<split>.jsonl`` and ``<root>/vcr1images/<img_fn>``, with the boxes of the
    image's objects in ``<root>/vcr1images/<metadata_fn>`` beside it. The tokens of a text are words
    and lists of places in ``objects``; a place becomes ``[person1]``, the object's class and its
    number, counted from 1 over all objects of the image; one that is out of range (there are some)
    ``[object9]``. The boxes of the objects that a row speaks of are kept in ``meta["boxes"]``, as
    JSON: name -> ``[left, top, right, bottom]`` in pixels; a prompt begins with the boxes of its
    own objects, in percent of the image, because a name alone does not say which person is meant.
    The rationale is asked for with the right answer; where labels are hidden (test), once with each
    of the four, which are told apart by the end of their ids. Nothing is ever left out.

    Raises:
        ValueError: The file is missing or malformed, or a row lacks one of its two labels.
    """
    images = Path(root, _IMAGES)
    note_folder(images)
    for place, row in read_json_lines(Path(root, f"{split}.jsonl")):
        objects = row.get("objects")
        if not isinstance(objects, list) or not all(isinstance(one, str) for one in objects):
            raise ValueError(
                f"{place}: field 'objects' must be a list of texts, found {objects!r:.200}"
            )
        question = _spoken(row.get("question"), objects, f"{place}: field 'question'")
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
        image = _image_boxes(images / required_text(row, "metadata_fn", place))
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


def _spoken(tokens: object, objects: Sequence[str], place: str) -> str:
    """Tokens as a text: objects by their names, no space before punctuation."""
    words = []
    for token in tokens if isinstance(tokens, list) else [None]:
        if isinstance(token, str) and token.strip():
            words.append(token.strip())
        elif isinstance(token, list) and token and all(type(one) is int for one in token):
            names = [object_name(objects, number) for number in token]
            words.append(", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1])
        else:
            raise ValueError(
                f"{place} must be a list of words and of lists of places in 'objects', found "
                f"{tokens!r:.200}"
            )
    if not words:
        raise ValueError(f"{place} is empty")
    return _BEFORE_SPACE.sub(r"\1", " ".join(words))


def _choices(row: dict[str, Any], name: str, objects: Sequence[str], place: str) -> tuple[str, ...]:
    choices = row.get(name)
    if not isinstance(choices, list) or len(choices) != NUM_CHOICES:
        raise ValueError(
            f"{place}: field {name!r} must be a list of {NUM_CHOICES} texts, found {choices!r:.200}"
        )
    return tuple(_spoken(choice, objects, f"{place}: field {name!r}") for choice in choices)


def _labels(row: dict[str, Any], place: str) -> tuple[int | None, int | None]:
    """The places of the right answer and rationale, both or neither."""
    labels = row.get("answer_label"), row.get("rationale_label")
    if labels == (None, None):
        return None, None
    for name, label in zip(("answer_label", "rationale_label"), labels, strict=True):
        if type(label) is not int or not 0 <= label < NUM_CHOICES:
            raise ValueError(
                f"{place}: field {name!r} must be from 0 to {NUM_CHOICES - 1}, found {label!r:.200}"
            )
    return labels


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


@lru_cache(maxsize=1)  # the questions about one image follow each other
def _image_boxes(path: Path) -> _ImageBoxes:
    if not path.exists():
        return _ImageBoxes([], None)
    metadata = read_json(path)
    boxes = metadata.get("boxes") if isinstance(metadata, dict) else None
    if not isinstance(boxes, list) or not all(
        isinstance(box, list) and len(box) >= 4 and all(type(x) in (int, float) for x in box)
        for box in boxes
    ):
        raise ValueError(f"{path}: expected 'boxes', a list of [left, top, right, bottom, ...]")
    width, height = (metadata.get(name) for name in ("width", "height"))
    is_size = all(type(edge) in (int, float) and edge > 0 for edge in (width, height))
    pixels = [[float(edge) for edge in box[:4]] for box in boxes]
    return _ImageBoxes(pixels, (width, height) if is_size else None)
