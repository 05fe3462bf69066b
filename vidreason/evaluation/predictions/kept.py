"""Predictions kept as they are made: whoever is killed, what was answered is not asked again.

Beside ``predictions-none.jsonl``, each process appends to a ``predictions-none.<process>.part`` of
its own, batch by batch, so that no two processes ever write to one file, not even one that outlives
a kill of the others. At the end the parts become the file, in the order of the questions.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vidreason.atomic_file import UNFINISHED, process_name
from vidreason.evaluation.manifest import (
    SCORED,
    Manifest,
    manifest_differences,
    manifest_from_json,
)
from vidreason.evaluation.predictions.row_files import (
    PredictionsFile,
    manifest_line,
    prediction_line,
    read_predictions_file,
    write_predictions,
)
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, align_predictions


class KeptPredictions:
    """The predictions of one run under one control.

    With several processes, one calls :meth:`recover` before and :meth:`finish` after the others
    append.

    Args:
        path: The file that there will be.
        manifest: What the answers are made with. Files of another one are never gone on with.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._own = path.with_name(f"{path.stem}.{process_name()}{_PART}")

    def recover(self) -> set[str]:
        """Put together what earlier starts have left, and say what was left out of it.

        A video that was unreadable is tried again.

        Returns:
            The ids of the questions that are answered.

        Raises:
            ValueError: A file is of another manifest, or damaged otherwise than by a kill.
        """
        # A kill tears parts, never the finished file, which appears at once.
        finished = self._read(self.path, may_be_torn=False) if self.path.exists() else None
        parts = {path: self._read(path, may_be_torn=True) for path in self._parts()}
        num_torn = sum(part.torn for part in parts.values())
        if num_torn:
            print(
                f"{self.path}: left out the unfinished last line of {num_torn} files; those "
                "questions are asked again",
                file=sys.stderr,
            )
        rows = [row for part in parts.values() for row in part.predictions]
        kept = [row for row in merge_predictions(rows) if not row.error]
        # First one file with everything, then the others go: a kill in between loses nothing.
        if parts:
            write_predictions(self._own, kept, self.manifest.as_json())
        for path in [*parts, *self.path.parent.glob(f"{self.path.stem}.*{UNFINISHED}")]:
            if path != self._own:
                path.unlink()
        if finished is not None:
            kept += [row for row in finished.predictions if not row.error]
        return {row.id for row in kept}

    def append(self, predictions: Sequence[BenchmarkPrediction]) -> None:
        """Keep some rows; they survive a kill of this process from here on."""
        lines = [prediction_line(prediction) for prediction in predictions]
        if not self._own.exists():
            self._own.parent.mkdir(parents=True, exist_ok=True)
            lines.insert(0, manifest_line(self.manifest.as_json()))
        # One unbuffered write: a kill of the process tears at most the last line.
        with self._own.open("ab", buffering=0) as file:
            file.write(b"".join(lines))

    def finish(self, expected_ids: Iterable[str]) -> list[BenchmarkPrediction]:
        """Write the file, remove the parts, and return the rows in the order of ``expected_ids``.

        Raises:
            ValueError: A question was not answered, or two processes answered it differently.
        """
        # A former start may have finished some questions: its file counts as a part.
        parts = self._parts()
        files = [*([self.path] if self.path.exists() else []), *parts]
        rows = [row for path in files for row in self._read(path, may_be_torn=False).predictions]
        predictions = align_predictions(merge_predictions(rows), expected_ids)
        if parts or not files:
            write_predictions(self.path, predictions, self.manifest.as_json())
        for path in parts:
            path.unlink()
        return predictions

    def _parts(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.stem}.*{_PART}"))

    def _read(self, path: Path, *, may_be_torn: bool) -> PredictionsFile:
        read = read_predictions_file(path, may_be_torn=may_be_torn)
        if read.manifest is None:
            if not read.predictions and may_be_torn:
                return read  # killed within the first line
            differences = [f"{path} does not say what its answers were made with"]
        else:
            other = manifest_from_json(read.manifest, str(path))
            changes = manifest_differences(other, self.manifest)
            # Rules of scoring may change: kept answers are scored anew.
            differences = [line for name in changes if name not in SCORED for line in changes[name]]
        if differences:
            raise ValueError(
                f"{path} holds answers that were made otherwise ({'; '.join(differences)}): remove "
                f"the folder {str(path.parent)!r}, or set another run_dir"
            )
        return read


_PART = ".part"


def merge_predictions(predictions: Iterable[BenchmarkPrediction]) -> list[BenchmarkPrediction]:
    """Each question once. An answer takes the place of a row whose video was unreadable.

    Raises:
        ValueError: A question was answered in two ways.
    """
    by_id: dict[str, BenchmarkPrediction] = {}
    for row in predictions:
        other = by_id.get(row.id)
        if other is None or other.error:
            by_id[row.id] = row
        elif not row.error and _content(row) != _content(other):
            raise ValueError(
                f"the question {row.id!r} was answered in two ways, {_shown(other)} and "
                f"{_shown(row)}: remove the predictions and answer again"
            )
    return list(by_id.values())


def _content(row: BenchmarkPrediction) -> str:
    """Content as text, where NaN is equal to itself."""
    return repr(asdict(replace(row, batch_seconds_share=0.0)))


def _shown(row: BenchmarkPrediction) -> Any:  # noqa: ANN401 - what a row holds
    return row.option_log_likelihoods or row.output
