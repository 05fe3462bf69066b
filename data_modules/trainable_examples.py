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

from data_modules.corpora import LossOn
from data_modules.example_files import CorpusIndex, StoredExamples
from data_modules.index_cache import digest
from data_modules.prompt_lengths import PromptLimit
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
from vidreason.reasoning.tokenization import check_turns

HIDDEN = "its reference is hidden: it has no response to learn from"


class TrainableExamples(StoredExamples):
    """A corpus without the examples that have no response, or a prompt without room for one.

    With the loss on all answers, the examples of one conversation are one: its last, of which the
    earlier answers are targets, too. An example that is too long for its conversation to be cut
    begins another one, in which the answers that the former one teaches are no targets.

    Args:
        corpus: All of its examples.
        limit: Which prompts are too long.
        loss_on: Which answers of a conversation an example teaches.

    Attributes:
        skipped: Rows that the reader left out when the index was written.
        left_out: Counts of the examples left out, and of the prompts cut.
        num_joined: Examples whose answers are taught by a later example of their conversation.
        ids_digest: The corpus' own where nothing is left out.

    Raises:
        ValueError: The chat template cannot be used for the corpus' conversations.
    """

    def __init__(self, corpus: CorpusIndex, limit: PromptLimit, loss_on: LossOn = "last") -> None:
        self.corpus = corpus
        self.skipped = corpus.skipped
        self.left_out = SkippedRows(quiet=True)
        self._limit = limit
        self._teaches_all = loss_on == "all"
        with_turns, num_turns = corpus.turn_counts()
        # A template that cannot write several turns is refused before the first step.
        if len(with_turns):
            check_turns(
                limit.tokenizer,
                limit.system_prompt,
                has_system=bool((num_turns % 2).any()),
                are_targets=self._teaches_all,
            )
        # By column, without making examples of the rows.
        hidden = corpus.rows_where("response", lambda texts: pc.equal(texts, ""))
        if len(hidden):
            self.left_out.record(corpus[int(hidden[0])].id, HIDDEN, len(hidden))
        left_out = set(hidden.tolist())
        cut = []
        turn_bytes = limit.turn_bytes if len(with_turns) else 0
        # Only prompts with more bytes than tokens are allowed can be too long.
        for row in corpus.long_prompts(limit.max_prompt_bytes, turn_bytes).tolist():
            if row in left_out:
                continue
            example = corpus[row]
            fitted = limit.fitted(example, self.left_out)
            if fitted is None:
                left_out.add(row)
            elif fitted is not example:
                cut.append(row)
        self._cut = frozenset(cut)
        joined = self._joined(left_out) if self._teaches_all else set()
        self.num_joined = len(joined)
        missing = np.array(sorted(left_out | joined), np.int64)
        # Of the rows that are kept, number i has as many missing ones before it as these are <= i.
        self._missing_before = missing - np.arange(len(missing))
        self.ids_digest = corpus.ids_digest
        if len(missing) or cut:
            self.ids_digest = digest([corpus.ids_digest, missing.tolist(), cut])

    def _joined(self, left_out: set[int]) -> set[int]:
        """The rows before those that teach them, too, and are neither cut nor left out."""
        continued = set(self.corpus.continued_rows().tolist())
        return {row for row in continued - left_out if row + 1 not in left_out | self._cut}

    def __len__(self) -> int:
        return len(self.corpus) - len(self._missing_before)

    @override
    def example(self, row: int) -> Example:
        number = int(self._rows(np.array([row], np.int64))[0])
        example = self.corpus[number]
        if number in self._cut:
            fitted = self._limit.fitted(example)
            assert fitted is not None
            return fitted
        if not self._teaches_all:
            return example
        turns = (
            turn._replace(is_target=turn.role == "assistant" and bool(turn.text))
            for turn in example.earlier_turns
        )
        return replace(example, earlier_turns=tuple(turns))

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Characters of prompt and response together, of each of ``rows``, before any cut."""
        return self.corpus.lengths(self._rows(rows))

    def _rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row numbers in the corpus."""
        # A row moves on by the number of missing ones before it.
        return rows + np.searchsorted(self._missing_before, rows, side="right")
