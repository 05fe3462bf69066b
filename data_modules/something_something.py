"""Something-Something v2: short clips of hands and objects, a source of Causal-Vid-Instruct.

Its sentences (``holding potato next to vicks vaporub bottle``) fill templates (``Holding
[something] next to [something]``), which are its 174 classes. The files have other names in later
archives, the ids are texts or numbers, and the test split has nothing but ids.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.annotation_files import id_field, is_nan_like, text_field
from data_modules.index_cache import note_file
from data_modules.json_files import read_json_array, read_json_members
from data_modules.skipped_rows import MalformedRowError, SkippedRows, examples_of
from vidreason.example import Example
from vidreason.reasoning.prompts import CAPTION_PROMPT

FILE_NAMES = ("something-something-v2-{}.json", "{}.json", "labels/{}.json")
"""Of the first release, and of the later archives."""


def read_something_something(
    root: str, split: str, skipped: SkippedRows | None = None
) -> Iterator[Example]:
    """Yield one captioning example a clip; the caption is its sentence.

    Layout: ``<root>/something-something-v2-<split>.json``, ``<root>/<split>.json`` or
    ``<root>/labels/<split>.json`` (``val`` is there called ``validation``), beside it the labels
    (``something-something-v2-labels.json`` or ``labels.json``), and
    ``<root>/20bn-something-something-v2/<id>.webm``. ``question_type`` is the label's number. The
    test split has ids only: its references are hidden. Malformed rows have no id, only one of
    ``label`` and ``template``, or a template that is not among the labels.

    Raises:
        ValueError: A file is missing or wrong as a whole.
    """
    skipped = SkippedRows() if skipped is None else skipped
    name = "validation" if split == "val" else split
    candidates = [Path(root, form.format(name)) for form in FILE_NAMES]
    for candidate in candidates:
        note_file(candidate)
    path = next((candidate for candidate in candidates if candidate.is_file()), candidates[0])
    labels = _labels(path.with_name(path.name.replace(name, "labels")))

    def make(place: str, row: dict[str, Any]) -> Iterator[Example]:
        video_id = id_field(row, "id", place)
        sentence, template = text_field(row, "label", place), text_field(row, "template", place)
        if bool(sentence) != bool(template) or (sentence and is_nan_like(sentence)):
            raise MalformedRowError(
                place,
                f"fields 'label' and 'template' are {sentence!r} and {template!r}; both are texts, "
                "or (in the test split) both are missing",
            )
        label = template.replace("[", "").replace("]", "")
        if template and label not in labels:
            raise MalformedRowError(place, f"the template {label!r} is not among the labels")
        yield Example(
            id=f"something_something:{split}:{video_id}",
            corpus="something_something",
            media=str(Path(root, "20bn-something-something-v2", f"{video_id}.webm")),
            video_id=video_id,
            prompt=CAPTION_PROMPT,
            response=sentence,
            answers=(sentence,) if sentence else (),
            question_type=labels[label] if template else "",
            meta={"template": template} if template else {},
        )

    yield from examples_of(read_json_array(path, skipped), make, skipped, named_by=("id",))


def _labels(path: Path) -> dict[str, str]:
    """Template without brackets -> number, as a text."""
    return {template: str(number) for _, template, number in read_json_members(path)}
