"""Files of predictions, a JSON row a line: written whole, and read as strictly as what others made.

A first line ``{"manifest": {...}}`` may say what the answers were made with.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from vidreason.atomic_file import atomic_file
from vidreason.evaluation.predictions.row_schema import row_problem, shown
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, grade
from vidreason.reasoning.futures import Future
from vidreason.reasoning.outcomes import TrueFuture

MANIFEST = "manifest"
"""The key of a first line that is no prediction but says what the predictions were made with."""

_DISTRIBUTIONS: dict[str, type[Future] | type[TrueFuture]] = {
    "futures": Future,
    "true_futures": TrueFuture,
}


def write_predictions(
    path: str | Path,
    predictions: Iterable[BenchmarkPrediction],
    manifest: Mapping[str, Any] | None = None,
) -> None:
    """Write one JSON object a line, the manifest first; the file appears whole or not at all."""
    with atomic_file(Path(path)) as file:
        if manifest is not None:
            file.write(manifest_line(manifest))
        for prediction in predictions:
            file.write(prediction_line(prediction))


def prediction_line(prediction: BenchmarkPrediction) -> bytes:
    """The line of a prediction, with its end."""
    values = asdict(prediction)
    for name in _DISTRIBUTIONS:
        values[name] = [item._asdict() for item in getattr(prediction, name)]
    # Rows to which these fields do not apply are as they were before there were the fields.
    optional = ("outcome_kind", "outcome_seconds", "reference_justifications", "missing_capability")
    for name in (*_DISTRIBUTIONS, *optional, "record"):
        if values[name] in ([], (), {}, "", None):
            del values[name]
    # Half a character, which JSON may hold, is read again as it is.
    return f"{json.dumps(values, ensure_ascii=False)}\n".encode(errors="surrogatepass")


def manifest_line(manifest: Mapping[str, Any]) -> bytes:
    """The line that a file with a manifest begins with."""
    return f"{json.dumps({MANIFEST: manifest}, ensure_ascii=False)}\n".encode()


class PredictionsFile(NamedTuple):
    """Content of a file of predictions."""

    predictions: list[BenchmarkPrediction]
    manifest: dict[str, Any] | None
    """None where the file does not say what it was made with."""
    torn: bool
    """True if the last line was unfinished, and left out."""


def read_predictions(path: str | Path) -> list[BenchmarkPrediction]:
    """Read what :func:`write_predictions` wrote.

    Raises:
        ValueError: A line is no prediction, or an id is there twice; the message names file and
            line.
    """
    return read_predictions_file(path).predictions


def read_predictions_file(path: str | Path, *, may_be_torn: bool = False) -> PredictionsFile:
    """Read a file of predictions with its manifest.

    Rows are graded anew: what they say of themselves may be of older rules.

    Args:
        path: The file.
        may_be_torn: Leave out a last line without an end, as a killed process leaves it.

    Raises:
        ValueError: As :func:`read_predictions`.
    """
    rows, manifest, torn = [], None, False
    seen: set[str] = set()
    for number, line in _lines(path):
        if may_be_torn and not line.endswith(b"\n"):
            torn = True
            break
        location = f"{path}:{number}"
        row = _json_object(line, location)
        # The first line may say what the answers were made with.
        if number == 1 and row.keys() == {MANIFEST}:
            manifest = row[MANIFEST]
            if not isinstance(manifest, dict):
                raise ValueError(f"{location}: manifest is {shown(manifest)}, expected an object")
            continue
        if problem := row_problem(row):
            raise ValueError(f"{location}: {problem}")
        if row["id"] in seen:
            raise ValueError(
                f"{location}: id is {row['id']!r}, expected one that is not there before"
            )
        seen.add(row["id"])
        rows.append(grade(row_from_json(row)))
    return PredictionsFile(rows, manifest, torn)


def row_from_json(values: Mapping[str, Any]) -> BenchmarkPrediction:
    """The row of the fields that JSON holds."""
    fields = {name: _as_tuples(value) for name, value in values.items()}
    for name, event in _DISTRIBUTIONS.items():
        fields[name] = tuple(event(**item) for item in values.get(name, ()))
    return BenchmarkPrediction(**fields)


def read_json(content: bytes, location: str) -> Any:  # noqa: ANN401 - any JSON value
    """Read JSON whose objects name no key twice.

    Raises:
        ValueError: It is damaged, or too deep or with too long numbers to be read; the message
            begins with ``location``.
    """
    try:
        return json.loads(content, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"{location}: not valid JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{location}: not UTF-8") from error
    except RecursionError as error:
        raise ValueError(f"{location}: not valid JSON: nested too deep") from error
    except ValueError as error:  # a number of thousands of digits, or a key that is there twice
        raise ValueError(f"{location}: not valid JSON: {error}") from error


def _lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    with Path(path).open("rb") as stream:
        yield from enumerate(stream, start=1)


def _json_object(line: bytes, location: str) -> dict[str, Any]:
    row = read_json(line, location)
    if not isinstance(row, dict):
        raise ValueError(f"{location}: the row is {shown(row)}, expected an object")
    return row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"{counts.most_common(1)[0][0]!r} is there twice, expected once")
    return values


def _as_tuples(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
