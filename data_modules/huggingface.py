"""Questions, answers and captions in files or data sets of Hugging Face, by their columns.

Columns of other names than an example's fields are mapped by the configuration; those that tell the
span of the video under a common name (:mod:`data_modules.span_keys`) are read without it.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from data_modules.conversations import media_below
from data_modules.corpora import FIELDS
from data_modules.data_sets import open_data_set
from data_modules.example_kinds import choice_example, prompted_example
from data_modules.files import Files
from data_modules.multiple_choice import option_texts, right_option
from data_modules.rows import Row, is_nan_like
from data_modules.skipped_rows import SkippedRows, examples_of
from data_modules.span_keys import SpanKeys, one_span, span_of
from vidreason.example import Example
from vidreason.reasoning.prompts import CAPTION_PROMPT


def read_huggingface(
    files: Files,
    split: str,
    skipped: SkippedRows,
    *,
    columns: Mapping[str, str] | None = None,
    revision: str | None = None,
) -> Iterator[Example]:
    """Yield one example a row.

    ``media`` is a path below ``root``, an absolute path, a URL, or what the features ``Video`` and
    ``Audio`` hold undecoded, an object with ``path``. ``response`` is the answer or caption. Where
    there is no prompt the example is a captioning one. With ``options`` (a list of texts, or a
    column for each) it is a multiple-choice one; its right answer is ``answer_index`` (from 0),
    else the option that ``response`` spells, by its text or its letter. Questions of one
    ``group_id`` are those that a protocol scores together. Without an ``id`` the row's number is
    the id.

    Left out and counted are rows whose media is null, whose span is empty, reversed or no number,
    and captions that are null or ``nan``. Malformed are rows with a value of another type, and
    lines of a file that are not of its form.

    Args:
        files: Their root is a name on the Hub, with ``hf://datasets/`` before it to read the data
            set without storing it, a folder with ``<split>.jsonl``, ``.json``, ``.csv``
            or ``.parquet``, another one that ``load_dataset`` reads, or one that ``save_to_disk``
            wrote.
        split: As the data set calls it.
        skipped: Counts what is left out.
        columns: From fields of an example (``FIELDS``) to the data set's columns. A field that is
            not named is read from the column of its own name, where there is one.
        revision: Commit, tag or branch of a data set of the Hub; None for its main branch.

    Raises:
        ValueError: The data set cannot be loaded or read on, a column is missing, or the videos
            stand in the data set itself.
    """
    root = files.root
    names, rows = open_data_set(files, split, revision, skipped)
    # Streams may not know their columns.
    mapping = {name: name for name in FIELDS if name in names} | dict(columns or {})
    option_columns = _option_columns(mapping, names)
    wanted = {column for field, column in mapping.items() if field != "options"}
    wanted |= set(option_columns or filter(None, [mapping.get("options")]))
    missing = sorted(wanted - set(names)) if names else []
    if missing or "media" not in mapping:
        shown = ", ".join(map(repr, missing)) or "'media'"
        other = next((sign for sign in ";\t|" if len(names) == 1 and sign in names[0]), "")
        hint = f" (a CSV file's columns are separated by ',', not {other!r})" if other else ""
        raise ValueError(
            f"{root}[{split}] has no column {shown}; found {', '.join(names)}"
            f"{hint}: map them by columns, such as columns: {{media: video, "
            "response: caption}"
        )
    mapped, numbers = set(mapping.values()), count()

    def make(values: Row) -> Iterator[Example]:
        number = next(numbers)
        # The fields of an example, then the span, which other columns may name as well. An empty
        # cell of a table is none.
        given = {field: values.get(column) for field, column in mapping.items()}
        fields = {field: None if value == "" else value for field, value in given.items()}
        if option_columns:
            fields["options"] = _without_end([values.get(column) for column in option_columns])
        row = Row(fields, values.location)
        spans = [
            SpanKeys(*row.span("start_seconds", "end_seconds"), ()),
            span_of(values, ignored=mapped),
        ]
        yield _example(row, number, one_span(spans, row, skipped), root, split)

    yield from examples_of(rows, make, skipped)


def _option_columns(mapping: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """Return the columns of the options where each has its own; empty for one column of lists."""
    column = mapping.get("options", "")
    if column in names or "," not in column:
        return []
    return [name.strip() for name in column.split(",")]


def _without_end(options: list[Any]) -> list[Any]:
    """Options without the last cells that are empty: questions with fewer leave them so."""
    while options and options[-1] in (None, ""):
        options.pop()
    return options


def _example(row: Row, number: int, span: SpanKeys, root: str, split: str) -> Example:
    media = _media(row)
    if not media:
        raise row.unusable("no video")
    prompt, response = row.text("prompt"), row.number_or_text("response")
    options = _options(row)
    if not options and not prompt and is_nan_like(response):
        raise row.unusable("no caption")
    row_id = number if row.get("id") is None else row.id("id")
    fields: dict[str, Any] = {
        "id": f"huggingface:{split}:{row_id}",
        "media": media_below(root, media),
        "video_id": media if row.get("video_id") is None else row.id("video_id"),
        "span": span[:2],
        "question_type": "" if row.get("question_type") is None else str(row["question_type"]),
        "group_id": "" if row.get("group_id") is None else str(row["group_id"]),
    }
    # By what a row has: options, a question, or neither, which is a caption.
    if options:
        if row.get("answer_index") is None:
            index = right_option(row, "response", options, "text")
        else:
            index = right_option(row, "answer_index", options, "index")
        return choice_example(row.required("prompt"), options, index, **fields)
    question = prompt or CAPTION_PROMPT
    return prompted_example(question, response, meta={"question": question}, **fields)


def _options(row: Row) -> tuple[str, ...]:
    value = row.get("options")
    if isinstance(value, str):
        raise row.malformed(
            f"field 'options' is one text, {value!r:.200}: write a list, or a column for each "
            'option, columns: {options: "A, B, C"}'
        )
    return option_texts(row, "options") if value else ()


def _media(row: Row) -> str:
    value = row["media"]
    if isinstance(value, dict):
        if value.get("bytes"):
            raise ValueError(
                f"{row.location}: the video's bytes stand in the data set itself; write them to a "
                "file, or use tar shards"
            )
        value = value.get("path")
    if value is not None and not isinstance(value, str):
        raise row.malformed(f"field 'media' must be a path or URL, found {value!r:.200}")
    return (value or "").strip()
