"""One table of a benchmark, in whichever of the usual forms it was downloaded."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from data_modules.annotation_files import first_file, require_file
from data_modules.json_files import read_json_array, read_json_lines
from data_modules.skipped_rows import SkippedRows

Rows = Iterator[tuple[str, dict[str, Any]]]


def read_table(paths: Sequence[Path], skipped: SkippedRows) -> Rows:
    """Yield ``(place, row)`` of the first of ``paths`` that is there.

    Args:
        paths: Files that end with ``.parquet``, ``.json`` (an array) or ``.jsonl``.
        skipped: Counts malformed rows.

    Raises:
        ValueError: None is there, or the one that is is wrong as a whole.
    """
    path = first_file(*paths)
    if path.suffix == ".parquet":
        return read_parquet_rows(path)
    return (
        read_json_lines(path, skipped)
        if path.suffix == ".jsonl"
        else (read_json_array(path, skipped))
    )


def read_parquet_rows(path: Path) -> Rows:
    """Yield ``(place, row)`` of a parquet file, numbered from 1.

    Raises:
        ValueError: The file is missing, or damaged.
    """
    require_file(path)
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}:{number}", row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a sound parquet file: {error}; fetch it again") from error
