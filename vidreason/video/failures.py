"""Unreadable videos are counted and written down, never replaced and never forgotten."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from vidreason.errors import ReportedError
from vidreason.secrets import printable, without_url_credentials
from vidreason.video.media import UnsupportedMediaError, is_on_network, server_said

FailureCause = Literal[
    "missing",  # there is no such file, or nothing at its address
    "empty",  # of no bytes
    "unreachable",  # it is there, but reading it fails: permissions, disk, network, store
    "not-a-video",  # text, a playlist, a folder, or of a format that libav does not know
    "truncated",  # it ends before its own header says
    "no-video-stream",  # sound or a cover picture only
    "unsupported",  # no decoder for its codec, too large, no quarter turn, a URL that is not read
    "decode-error",  # a picture is damaged or does not come out
    "changed",  # it is not the file that was indexed
    "span-outside",  # it ends before the span that an annotation names
    "timed-out",  # it took longer than the limit, and was given up
    "crashed",  # the process that decoded or perceived it crashed
]
"""Why a video cannot be read. The names are stable: reports count by them."""

_MAX_LINE_CHARS = 1000

WARM_UP_SAMPLES = 100
"""The budget is judged against at least this many samples, so that one early failure does not stop
a long run."""


class VideoFailure(NamedTuple):
    """Why one example's video could not be read; a tuple of strings, to travel in batches."""

    id: str
    path: str
    cause: FailureCause
    detail: str = ""
    """Exact observation, in words."""


class VideoReadError(ReportedError):
    """A file cannot be opened, is not a video, or does not hold the wanted frames."""

    def __init__(self, path: str, cause: FailureCause, detail: str = "") -> None:
        super().__init__(path, cause, detail)  # all, so that the error survives pickling
        self.path = path
        self.cause: FailureCause = cause
        self.detail = detail

    def __str__(self) -> str:
        text = f"cannot read video {self.path!r}: {self.detail or self.cause}"
        return without_url_credentials(text)

    def failure(self, example_id: str) -> VideoFailure:
        """Return the failure log's row of this error, for the example that needs the video."""
        return VideoFailure(example_id, self.path, self.cause, self.detail)


def read_error(path: str, error: OSError) -> VideoReadError:
    """The same error, told in the words of this module."""
    if isinstance(error, UnsupportedMediaError):
        return VideoReadError(path, "unsupported", str(error))
    on_network = f"it is an address, and {server_said(error)}" if is_on_network(path) else ""
    if isinstance(error, FileNotFoundError):
        return VideoReadError(path, "missing", on_network or "there is no such file")
    return VideoReadError(path, "unreachable", on_network or error.strerror or str(error))


class UnreadableVideosError(ReportedError):
    """More videos were unreadable than the run allows; the message has several lines."""

    def lines(self) -> list[str]:
        """Return the summary by lines."""
        return str(self).splitlines()


class FailureLog:
    """Counts samples and unreadable videos, and writes each of the latter down once.

    The file has one JSON object a line: ``id``, ``path``, ``cause`` (a ``FailureCause``),
    ``detail`` (in words), ``time`` (UTC, ISO 8601). Ids that the file already holds are not written
    again, so a resumed run continues it. Several ranks may append to one file: each row is one
    write at the end of the file.

    Args:
        path: The file, or None to count without writing.
        max_unreadable_fraction: The budget, a share of the samples seen, in [0, 1].
        num_examples: How many examples there are in all; with fewer than ``WARM_UP_SAMPLES`` the
            budget is judged against this number until more have been seen.
        setting: Name of what sets the budget, as whoever reads the message can change it.
    """

    def __init__(
        self,
        path: str | Path | None,
        max_unreadable_fraction: float,
        num_examples: int,
        *,
        setting: str = "max_unreadable_fraction",
    ) -> None:
        if not 0.0 <= max_unreadable_fraction <= 1.0:
            raise ValueError(
                f"{setting} is a share of the samples, in [0, 1]: found {max_unreadable_fraction}"
            )
        self.path = None if path is None else Path(path)
        self.max_unreadable_fraction = max_unreadable_fraction
        self.num_examples = num_examples
        self.setting = setting
        self.num_samples = 0
        self.num_unreadable = 0
        self.causes: Counter[FailureCause] = Counter()
        """How many samples failed for each cause."""
        self._first: list[VideoFailure] = []
        self._written: set[str] = set()
        self._offset = 0
        self._read_new_rows()

    def record(self, num_samples: int, failures: Iterable[VideoFailure] = ()) -> None:
        """Count ``num_samples`` samples, of which ``failures`` could not be read.

        Raises:
            UnreadableVideosError: The budget is spent. The message sums up what failed and says
                what to do.
        """
        failures = list(failures)
        self.write(failures)
        self.count(num_samples, len(failures))

    def write(self, failures: Sequence[VideoFailure]) -> None:
        """The part of :meth:`record` that is this process' own: the rows of the file."""
        self.causes.update(failure.cause for failure in failures)
        self._first += failures[: 3 - len(self._first)]
        if failures and self.path is not None:
            self._append(self.path, failures)

    def count(self, num_samples: int, num_unreadable: int) -> None:
        """The part of :meth:`record` that may be added up over processes first: the budget.

        Raises:
            UnreadableVideosError: The budget is spent.
        """
        self.add(num_samples, num_unreadable)
        judged = max(self.num_samples, min(WARM_UP_SAMPLES, self.num_examples))
        if self.num_unreadable > self.max_unreadable_fraction * judged:
            raise UnreadableVideosError(self.summary())

    def add(self, num_samples: int, num_unreadable: int) -> None:
        """The part of :meth:`count` that judges nothing, for who judges at the end."""
        self.num_samples += num_samples
        self.num_unreadable += num_unreadable

    def summary(self) -> str:
        """A few lines: how many, how many of each cause, first examples, where the rest is."""
        lines = [
            f"{self.num_unreadable} of {self.num_samples} samples had an unreadable video "
            f"({self.setting} = {self.max_unreadable_fraction})"
        ]
        lines += [f"  {count} x {cause}" for cause, count in self.causes.most_common()]
        lines += [
            # What data and stores say may hold passwords and escapes of the terminal.
            "  "
            + printable(
                without_url_credentials(
                    f"such as {failure.id}: {failure.path} ({failure.detail or failure.cause})"
                ),
                _MAX_LINE_CHARS,
            )
            for failure in self._first
        ]
        where = f"all of them are in {self.path}; " if self.path is not None else ""
        lines.append(
            f"  {where}repair or remove these videos, check the corpus' root, or raise "
            f"{self.setting}"
        )
        return "\n".join(lines)

    def _read_new_rows(self) -> None:
        """Learn the ids written since the last look, by an earlier run or by another rank."""
        if self.path is None or not self.path.exists():
            return
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                self._offset += len(line)
                # A kill in mid-write tears at most the last row; its example is simply written
                # again.
                with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError):
                    self._written.add(json.loads(line)["id"])

    def _append(self, path: Path, failures: Sequence[VideoFailure]) -> None:
        self._read_new_rows()
        rows = {failure.id: failure for failure in failures if failure.id not in self._written}
        if not rows:
            return
        time = datetime.now(UTC).isoformat(timespec="seconds")
        shown = (
            failure._replace(
                path=without_url_credentials(failure.path),
                detail=without_url_credentials(failure.detail),
            )
            for failure in rows.values()
        )
        text = "".join(
            json.dumps({**failure._asdict(), "time": time}, ensure_ascii=False) + "\n"
            for failure in shown
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as stream:
            torn = stream.tell() > 0 and not _ends_with_newline(path)
            # Of a name that is not UTF-8 the odd bytes are written as JSON escapes.
            stream.write((("\n" if torn else "") + text).encode(errors="backslashreplace"))
        self._written.update(rows)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
