"""Columns and rows of a file, or of a data set of Hugging Face on disk or on the Hub."""

import codecs
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from data_modules.annotation_files import read_csv_rows
from data_modules.files import Files
from data_modules.json_files import read_json_array, read_json_lines
from data_modules.rows import Row
from data_modules.skipped_rows import SkippedRows
from data_modules.table_files import read_parquet_rows
from vidreason.hub_access import hub_or_cache

STREAMED = "hf://datasets/"
"""Beginning of the root of a data set that is read without storing it."""
_DATA_SUFFIXES = (
    *(".arrow", ".parquet", ".json", ".jsonl", ".csv", ".tsv", ".txt", ".md", ".yaml", ".xml"),
    *(".gz", ".zst", ".zip", ".tar", ".h5"),
)
"""Files whose content a folder's data set depends on; of videos, examples hold the paths only."""
_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
"""Endings of a split that is one file, ``<split><suffix>`` in a folder."""
_START_BYTES = 4096  # enough to tell an array from lines
_FIRST_ROWS = 1000
"""Rows of a file of JSON whose fields are taken for its columns."""


def open_data_set(
    files: Files, split: str, revision: str | None, skipped: SkippedRows
) -> tuple[list[str], Iterator[Row]]:
    """Open a split: one file, or what ``datasets`` loads.

    Args:
        files: See :func:`data_modules.huggingface.read_huggingface`.
        split: As the data set calls it.
        revision: Of a data set of the Hub.
        skipped: Counts malformed rows of a file.

    Returns:
        The columns, empty where they are not known; those of JSON are what its first rows have. And
        the rows.

    Raises:
        ValueError: There is no such data set or split, it has no rows, or it cannot be loaded.
    """
    if not files.is_folder("."):
        return _loaded(_load_named(files.root, split, revision), f"{files.root}[{split}]")
    if revision is not None:
        raise ValueError(
            f"revision {revision!r} of corpus {files.root!r}: it is a folder of this machine, only "
            "data sets of the Hub have revisions; remove it"
        )
    # A file of the split by its name; else whatever the package datasets makes of the folder.
    names = [f"{split}{suffix}" for suffix in _SUFFIXES if files.exists(f"{split}{suffix}")]
    if len(names) > 1:
        raise ValueError(
            f"split {split!r} of {files.root!r} could be {' or '.join(names)}: rename or remove one"
        )
    if not names:
        files.record_tree(".", *_DATA_SUFFIXES)
        return _loaded(_load_folder(files, split), f"{files.root}[{split}]")
    # Columns are known by the first rows, which are then yielded as well.
    rows = _file_rows(files, names[0], skipped)
    first = list(islice(rows, _FIRST_ROWS))
    columns = list(dict.fromkeys(column for row in first for column in row))
    if not columns:
        raise ValueError(
            f"{files.path(names[0])} has no rows"
            + (f": {skipped.malformed[0]}" if skipped.malformed else "")
        )
    return columns, chain(first, rows)


def _file_rows(files: Files, name: str, skipped: SkippedRows) -> Iterator[Row]:
    """The rows of a file by the readers of all annotation files, whatever its JSON is called."""
    suffix = Path(name).suffix
    if suffix == ".csv":
        return read_csv_rows(files, name, (), skipped)
    if suffix == ".parquet":
        return read_parquet_rows(files, name)
    with files.open(name) as file:
        start = file.read(_START_BYTES).removeprefix(codecs.BOM_UTF8).lstrip()
    read = read_json_array if start.startswith(b"[") else read_json_lines
    return read(files, name, skipped)


def _load_named(root: str, split: str, revision: str | None) -> Any:  # noqa: ANN401
    name = root.removeprefix(STREAMED)
    if name.count("/") > 1 or name.startswith(("/", ".", "~")):
        raise ValueError(
            f"there is no folder {root!r}, and a data set of the Hub is called OWNER/NAME: "
            "check root"
        )
    return _load_from_hub(root, split, revision)


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
    failed = f"the data set {root!r}, split {split!r}, cannot be loaded"
    # A layout as on the Hub.
    with _foreign_errors(failed):
        try:
            splits = list(map(str, datasets.get_dataset_split_names(root)))
        except FileNotFoundError:
            splits = []
    if split not in splits:
        others = (Path(name) for name in files.names("."))
        stems = [other.stem for other in others if other.suffix in _SUFFIXES]
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
    import datasets

    try:
        yield
    except Exception as error:  # of datasets, pyarrow, fsspec, httpx, huggingface_hub
        of_split = split and "split" in str(error).lower()
        remedy = f" (set data.*.split, which is {split!r})" if of_split else ""
        said: BaseException = error
        if isinstance(error, datasets.exceptions.DatasetGenerationError):
            said = error.__cause__ or error  # it says that there was an error
        raise ValueError(f"{failed}: {said}{remedy}") from error


def _no_split(root: str, split: str, splits: Iterable[str]) -> str:
    return (
        f"{root!r} has no split {split!r} (data.*.split; as a file {split}.jsonl, .json, .csv or "
        f".parquet); found {', '.join(splits) or 'none'}"
    )


def _loaded(dataset: Any, name: str) -> tuple[list[str], Iterator[Row]]:  # noqa: ANN401
    import datasets

    # Undecoded, the feature Video gives a path.
    for column, feature in (dataset.features or {}).items():
        if isinstance(feature, datasets.Video):
            dataset = dataset.cast_column(column, datasets.Video(decode=False))
    return dataset.column_names or [], _rows(dataset, name)


def _rows(dataset: Any, name: str) -> Iterator[Row]:  # noqa: ANN401 - of datasets
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
