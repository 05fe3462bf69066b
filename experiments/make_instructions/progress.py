"""Where a run stands: a bar on a terminal, and a line now and then in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm  # type: ignore[import-untyped]

from vidreason.teacher.journal import Journal
from vidreason.teacher.journal_records import Counts
from vidreason.teacher.spending import Spending

_COST_SECONDS = 2.0
"""How often the cost is added up."""


class Progress:
    """The bar of one run; its time left is by the clips of this start.

    Args:
        journal: What is counted.
        spending: Whose cost is shown; None for a run that costs nothing.
        currency: Of the cost; empty for none.
    """

    def __init__(self, journal: Journal, spending: Spending | None, currency: str) -> None:
        self._journal = journal
        self._spending = spending
        self._currency = currency
        counts = journal.counts()
        self._bar = tqdm(
            total=counts.num_clips,
            initial=counts.num_clips - counts.pending,
            unit="clip",
            desc="make_instructions",
            # A batch job's log has a line for each state of the bar.
            mininterval=0.1 if sys.stderr.isatty() else 30.0,
        )
        self._last_cost = float("-inf")
        self._cost = ""

    def show(self) -> None:
        """Take account of what was recorded since the last time."""
        counts = self._journal.counts()
        self._bar.set_postfix_str(self._postfix(counts), refresh=False)
        self._bar.update(counts.num_clips - counts.pending - self._bar.n)

    def close(self) -> None:
        """Leave the last state in its line."""
        self._bar.set_postfix_str(self._postfix(self._journal.counts()), refresh=False)
        self._bar.close()

    def _postfix(self, counts: Counts) -> str:
        parts = [f"accepted {counts.accepted}", f"rejected {counts.rejected.total()}"]
        if failed := counts.failed.total():
            parts.append(f"failed {failed}")
        if self._spending is not None and self._currency:
            now = time.monotonic()
            if now - self._last_cost >= _COST_SECONDS:
                self._last_cost = now
                self._cost = f"{self._spending.paid_cost:.2f} {self._currency}"
            parts.append(self._cost)
        return ", ".join(parts)


@contextmanager
def progress_of(journal: Journal, spending: Spending | None, currency: str) -> Iterator[Progress]:
    """Show a run's progress until the block ends."""
    progress = Progress(journal, spending, currency)
    try:
        yield progress
    finally:
        progress.close()
