"""The examples of a corpus that can be trained on: with a response, and with room for it.

Which these are is found out before training starts, so that no run ends at the one row of a million
that cannot be learnt from. The index is searched by its columns, a row is only made of what may be
too long: of 110 million captions none is.
"""

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from typing_extensions import override

from data_modules.example_files import CorpusIndex, StoredExamples
from data_modules.index_cache import digest
from data_modules.prompt_lengths import PromptLimit
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example

HIDDEN = "its reference is hidden: it has no response to learn from"


class TrainableExamples(StoredExamples):
    """A corpus without the examples that have no response, or a prompt without room for one.

    Args:
        corpus: All of its examples.
        limit: Which prompts are too long.

    Attributes:
        skipped: Rows that the reader left out when the index was written.
        left_out: Counts of the examples left out, and of the prompts cut.
        ids_digest: The corpus' own where nothing is left out.
    """

    def __init__(self, corpus: CorpusIndex, limit: PromptLimit) -> None:
        self.corpus = corpus
        self.skipped = corpus.skipped
        self.left_out = SkippedRows(quiet=True)
        self._limit = limit
        # By column, without making examples of the rows.
        hidden = corpus.rows_where("response", lambda texts: pc.equal(texts, ""))
        if len(hidden):
            self.left_out.record(corpus[int(hidden[0])].id, HIDDEN, len(hidden))
        left_out = set(hidden.tolist())
        cut = []
        long = corpus.rows_where(
            "prompt", lambda texts: pc.greater(pc.binary_length(texts), limit.max_prompt_bytes)
        )
        # Only prompts with more bytes than tokens are allowed can be too long.
        for row in long.tolist():
            if row in left_out:
                continue
            example = corpus[row]
            prompt = limit.fitted(example, self.left_out)
            if prompt is None:
                left_out.add(row)
            elif prompt != example.prompt:
                cut.append(row)
        self._cut = frozenset(cut)
        missing = np.array(sorted(left_out), np.int64)
        # Of the rows that are kept, number i has as many missing ones before it as these are <= i.
        self._missing_before = missing - np.arange(len(missing))
        self.ids_digest = corpus.ids_digest
        if left_out or cut:
            self.ids_digest = digest([corpus.ids_digest, missing.tolist(), cut])

    def __len__(self) -> int:
        return len(self.corpus) - len(self._missing_before)

    @override
    def example(self, row: int) -> Example:
        number = int(self._rows(np.array([row], np.int64))[0])
        example = self.corpus[number]
        if number not in self._cut:
            return example
        prompt = self._limit.fitted(example)
        assert prompt is not None
        return replace(example, prompt=prompt, earlier_turns=())

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Characters of prompt and response together, of each of ``rows``, before any cut."""
        return self.corpus.lengths(self._rows(rows))

    def _rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row numbers in the corpus."""
        return rows + np.searchsorted(self._missing_before, rows, side="right")
