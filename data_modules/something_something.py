"""Something-Something v2: short clips of hands and objects, a source of Causal-Vid-Instruct.

Its sentences (``holding potato next to vicks vaporub bottle``) fill templates (``Holding
[something] next to [something]``), which are its 174 classes. The files have other names in later
archives, the ids are texts or numbers, and the test split has nothing but ids.
"""

from collections.abc import Iterator

from data_modules.example_kinds import caption_example
from data_modules.files import Files
from data_modules.json_files import read_json_array, read_json_object
from data_modules.rows import Row, is_nan_like
from data_modules.skipped_rows import SkippedRows, examples_of
from vidreason.example import Example

FILE_NAMES = ("something-something-v2-{}.json", "{}.json", "labels/{}.json")
"""Names in the first release, and in the later archives."""


def read_something_something(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
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
    name = "validation" if split == "val" else split
    path = files.first(*(form.format(name) for form in FILE_NAMES))
    # Template without brackets -> number.
    labels = read_json_object(files, path.with_name(path.name.replace(name, "labels")))

    def make(row: Row) -> Iterator[Example]:
        video_id = row.id("id")
        sentence, template = row.text("label"), row.text("template")
        if bool(sentence) != bool(template) or (sentence and is_nan_like(sentence)):
            raise row.malformed(
                f"fields 'label' and 'template' are {sentence!r} and {template!r}; both are texts, "
                "or (in the test split) both are missing"
            )
        # Labels are templates without the brackets of their blanks.
        label = template.replace("[", "").replace("]", "")
        if template and label not in labels:
            raise row.malformed(f"the template {label!r} is not among the labels")
        yield caption_example(
            sentence,
            id=f"something_something:{split}:{video_id}",
            media=str(files.path("20bn-something-something-v2", f"{video_id}.webm")),
            video_id=video_id,
            question_type=str(labels[label]) if template else "",
            meta={"template": template} if template else {},
        )

    yield from examples_of(read_json_array(files, path, skipped), make, skipped, named_by=("id",))
