"""Any data set of Hugging Face ``datasets``: of the Hub or on disk, whole or as a stream.

Columns of other names than an example's fields are mapped by the configuration; those that tell the
span of the video under a common name (:mod:`data_modules.span_keys`) are read without it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from data_modules.conversations import media_below
from data_modules.corpora import FIELDS
from data_modules.example_kinds import choice_example, prompted_example
from data_modules.files import Files
from data_modules.multiple_choice import right_option
from data_modules.rows import Row, is_nan_like
from data_modules.skipped_rows import SkippedRows, examples_of
from data_modules.span_keys import SpanKeys, one_span, span_of
from vidreason.example import Example
from vidreason.hub_access import hub_or_cache
from vidreason.reasoning.prompts import CAPTION_PROMPT

STREAMED = "hf://datasets/"
"""Beginning of the root of a data set that is read without storing it."""
_DATA_SUFFIXES = (
    *(".arrow", ".parquet", ".json", ".jsonl", ".csv", ".tsv", ".txt", ".md", ".yaml", ".xml"),
    *(".gz", ".zst", ".zip", ".tar", ".h5"),
)
"""Files whose content a folder's data set depends on; of videos, examples hold the paths only."""


_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
"""Of data sets that are one file, ``<split><suffix>`` in a folder."""


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
    there is no prompt the example is a captioning one. With ``options`` (a list of texts) it is a
    multiple-choice one; its right answer is ``answer_index`` (from 0), else the option that
    ``response`` spells, by its text or its letter. Questions of one ``group_id`` are those that a
    protocol scores together. Without an ``id`` the row's number is the id.

    Left out and counted are rows whose media is null, whose span is empty, reversed or no number,
    and captions that are null or ``nan``. Malformed are rows with a value of another type.

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
    dataset = _load(files, split, revision)
    names: list[str] = dataset.column_names or []
    mapping = {name: name for name in FIELDS if name in names} | dict(columns or {})
    # Streams may not know their columns before the first row.
    option_columns = _option_columns(mapping, names)
    wanted = {column for field, column in mapping.items() if field != "options"}
    wanted |= set(option_columns or filter(None, [mapping.get("options")]))
    missing = sorted(wanted - set(names)) if names else []
    if missing or "media" not in mapping:
        shown = ", ".join(map(repr, missing)) or "'media'"
        raise ValueError(
            f"{root}[{split}] has no column {shown}; found {', '.join(names)}: map them by "
            "columns, such as columns: {media: video, response: caption}"
        )
    mapped = set(mapping.values())

    def make(values: Row) -> Iterator[Example]:
        # The fields of an example, then the span, which other columns may name as well.
        fields = {field: values.get(column) for field, column in mapping.items()}
        if option_columns:
            # Questions with fewer options leave the last columns empty.
            texts = [values.get(column) for column in option_columns]
            fields["options"] = [text for text in texts if text not in (None, "")]
        row = Row(fields, values.location)
        spans = [
            SpanKeys(*row.span("start_seconds", "end_seconds"), ()),
            span_of(values, ignored=mapped),
        ]
        yield _example(row, one_span(spans, row, skipped), root, split)

    yield from examples_of(_rows(dataset, mapping["media"], f"{root}[{split}]"), make, skipped)


def _option_columns(mapping: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """Return the columns of the options where each has its own; empty for one column of lists."""
    column = mapping.get("options", "")
    if column in names or "," not in column:
        return []
    return [name.strip() for name in column.split(",")]


def _load(files: Files, split: str, revision: str | None) -> Any:  # noqa: ANN401
    files.record_tree(".", *_DATA_SUFFIXES)
    if files.is_folder("."):
        if revision is not None:
            raise ValueError(
                f"revision {revision!r} of corpus {files.root!r}: it is a folder of this machine, "
                "only data sets of the Hub have revisions; remove it"
            )
        return _load_folder(files, split)
    name = files.root.removeprefix(STREAMED)
    if name.count("/") > 1 or name.startswith(("/", ".", "~")):
        raise ValueError(
            f"there is no folder {files.root!r}, and a data set of the Hub is called OWNER/NAME: "
            "check root"
        )
    return _load_from_hub(files.root, split, revision)


def _load_folder(files: Files, split: str) -> Any:  # noqa: ANN401 - of datasets
    import datasets  # slow to import

    root = files.root
    if files.exists("dataset_dict.json") or files.exists("state.json"):
        with _foreign_errors(f"the data set {root!r} cannot be loaded"):
            loaded = datasets.load_from_disk(root)
        if isinstance(loaded, datasets.Dataset):
            return loaded
        if split not in loaded:
            raise ValueError(_no_split(root, split, map(str, loaded)))
        return loaded[split]
    names = [f"{split}{suffix}" for suffix in _BUILDERS if files.exists(f"{split}{suffix}")]
    if len(names) > 1:
        raise ValueError(
            f"split {split!r} of {root!r} could be {' or '.join(names)}: rename or remove one"
        )
    failed = f"the data set {root!r}, split {split!r}, cannot be loaded"
    if names:
        file = files.path(names[0])
        # Alone: load_dataset would want the columns of all splits to be the same.
        data_files = {split: str(file)}
        with _foreign_errors(failed):
            return datasets.load_dataset(_BUILDERS[file.suffix], data_files=data_files, split=split)
    # A layout as on the Hub.
    with _foreign_errors(failed):
        try:
            splits = list(map(str, datasets.get_dataset_split_names(root)))
        except FileNotFoundError:
            splits = []
    if split not in splits:
        others = (Path(name) for name in files.names("."))
        stems = [other.stem for other in others if other.suffix in _BUILDERS]
        raise ValueError(_no_split(root, split, stems or splits))
    with _foreign_errors(failed):
        return datasets.load_dataset(root, split=split)


def _load_from_hub(root: str, split: str, revision: str | None) -> Any:  # noqa: ANN401
    import datasets

    name = root.removeprefix(STREAMED)
    at = "" if revision is None else f" at {revision!r}"
    with hub_or_cache() as why:
        failed = f"the data set {root!r}{at}, split {split!r}, cannot be loaded"
        if why:
            failed = (
                f"root is {root!r}, which is no folder here; as a data set of the Hub it cannot "
                f"be had from the cache, and the Hub cannot be asked ({why}): connect this "
                "machine, or name a folder"
            )
        with _foreign_errors(failed, split):
            streaming = name != root
            return datasets.load_dataset(name, split=split, streaming=streaming, revision=revision)


@contextmanager
def _foreign_errors(failed: str, split: str = "") -> Iterator[None]:
    """Turn what reads a data set's files into ours: it has no base class in common."""
    try:
        yield
    except Exception as error:  # of datasets, pyarrow, fsspec, httpx, huggingface_hub
        of_split = split and "split" in str(error).lower()
        remedy = f" (set data.*.split, which is {split!r})" if of_split else ""
        raise ValueError(f"{failed}: {error}{remedy}") from error


def _no_split(root: str, split: str, splits: Iterable[str]) -> str:
    return (
        f"{root!r} has no split {split!r} (data.*.split; as a file {split}.jsonl, .json, .csv or "
        f".parquet); found {', '.join(splits) or 'none'}"
    )


def _rows(
    dataset: Any,  # noqa: ANN401 - of datasets
    media_column: str,
    name: str,
) -> Iterator[Row]:
    import datasets

    # Undecoded, the feature Video gives a path.
    features = dataset.features or {}
    if isinstance(features.get(media_column), datasets.Video):
        dataset = dataset.cast_column(media_column, datasets.Video(decode=False))
    rows = iter(dataset)
    for number in count():
        try:
            row = next(rows, None)
        except Exception as error:  # of whatever reads the files, as in _load
            raise ValueError(
                f"{name}:{number}: the row cannot be read: {error}; fetch the data set again"
            ) from error
        if row is None:
            return
        yield Row(row, f"{name}:{number}")


def _example(row: Row, span: SpanKeys, root: str, split: str) -> Example:
    media = _media(row)
    if not media:
        raise row.unusable("no video")
    prompt, response = row.text("prompt"), row.text("response")
    options = tuple(row.texts("options")) if row.get("options") else ()
    if not all(options):
        raise row.malformed(f"field 'options': an option is empty in {options!r:.200}")
    if not options and not prompt and is_nan_like(response):
        raise row.unusable("no caption")
    number = row.location.rpartition(":")[2]
    row_id = number if row.get("id") is None else row.id("id")
    fields: dict[str, Any] = {
        "id": f"huggingface:{split}:{row_id}",
        "media": media_below(root, media),
        "video_id": media if row.get("video_id") is None else row.id("video_id"),
        "span": span[:2],
        "question_type": "" if row.get("question_type") is None else str(row["question_type"]),
        "group_id": "" if row.get("group_id") is None else str(row["group_id"]),
    }
    if options:
        if row.get("answer_index") is None:
            index = right_option(row, "response", options, "text")
        else:
            index = right_option(row, "answer_index", options, "index")
        return choice_example(row.required("prompt"), options, index, **fields)
    question = prompt or CAPTION_PROMPT
    return prompted_example(question, response, meta={"question": question}, **fields)


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
