"""One table of a benchmark, in whichever of the usual forms it was downloaded."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from data_modules.files import Files
from data_modules.json_files import read_json_array, read_json_lines
from data_modules.rows import Row
from data_modules.skipped_rows import SkippedRows


def read_table(files: Files, names: Sequence[str], skipped: SkippedRows) -> Iterator[Row]:
    """Yield each row of the first file that is there.

    Args:
        files: The corpus' files.
        names: Files that end with ``.parquet``, ``.json`` (an array) or ``.jsonl``.
        skipped: Counts malformed rows.

    Raises:
        ValueError: None is there, or the one that is is wrong as a whole.
    """
    path = files.first(*names)
    if path.suffix == ".parquet":
        return read_parquet_rows(files, path)
    read = read_json_lines if path.suffix == ".jsonl" else read_json_array
    return read(files, path, skipped)


def read_parquet_rows(
    files: Files, name: str | Path, columns: Sequence[str] | None = None
) -> Iterator[Row]:
    """Yield each row of a parquet file, numbered from 1.

    Args:
        files: The corpus' files.
        name: The file's name among them.
        columns: Those that are read, as far as they are there; None for all.

    Raises:
        ValueError: The file is missing, or damaged.
    """
    path = files.path(name)
    number = 0
    try:
        with files.open(name) as stream, parquet.ParquetFile(stream) as file:
            there = file.schema_arrow.names
            for batch in file.iter_batches(
                columns=None if columns is None else [one for one in columns if one in there]
            ):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(fields, f"{path}:{number}")
    # Texts are decoded only when they become Python's, and may be no UTF-8.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a sound parquet file: {error}; fetch it again") from error
