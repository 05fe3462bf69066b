"""Questions of a released benchmark, and those of them that a reader could read."""

from collections.abc import Sequence
from typing import NamedTuple

from data_modules.corpora import CorpusConfig
from data_modules.readers import reader_named
from data_modules.skipped_rows import SkippedRows


class Coverage(NamedTuple):
    """Questions of a benchmark's split that were read, and all of them."""

    num_read: int
    """Questions that are asked."""
    num_questions: int
    """Questions that there are: officially, or in the files."""
    is_official: bool
    """True if ``num_questions`` is the benchmark's, and not only that of these files."""

    @property
    def is_complete(self) -> bool:
        """Return whether all of them are asked."""
        return self.num_read == self.num_questions

    def __str__(self) -> str:
        whose = "official questions" if self.is_official else "questions of its files"
        return f"{self.num_read:,} of {self.num_questions:,} {whose}"


def coverage(config: CorpusConfig, skipped: SkippedRows) -> Coverage:
    """Compare the questions that were read with those of the split.

    Files with less than half of the official questions are not taken for the benchmark's own: the
    format is often used for other data. Neither is what a ``limit`` has cut on purpose.

    Args:
        config: The corpus.
        skipped: The counts of all its rows.
    """
    official = reader_named(config.reader).num_questions.get(config.split)
    if official is None or config.limit is not None or 2 * skipped.num_rows < official:
        return Coverage(skipped.num_read, skipped.num_rows, is_official=False)
    return Coverage(skipped.num_read, official, is_official=True)


def incomplete_corpora(
    configs: Sequence[CorpusConfig], counts: Sequence[SkippedRows]
) -> dict[str, str]:
    """By corpus, how much was read of the corpora of which some questions could not be.

    Args:
        configs: The corpora.
        counts: Of the rows of each.
    """
    texts: dict[str, list[str]] = {}
    for config, skipped in zip(configs, counts, strict=True):
        covered = coverage(config, skipped)
        if not covered.is_complete:
            texts.setdefault(config.corpus, []).append(str(covered))
    return {corpus: " and ".join(parts) for corpus, parts in texts.items()}
