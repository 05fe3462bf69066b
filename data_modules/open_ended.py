"""An open-ended test set (section 5.1.2): held-out rows whose references no training text shares.

It is in the form of Causal-Vid-Instruct, beside the rows that it is drawn from, so that whatever
reads those reads it, and a check of the data finds none of its texts in training.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

from data_modules.contamination import compared_text
from data_modules.corpora import CorpusConfig
from data_modules.files import Files
from data_modules.json_files import read_json_lines
from data_modules.rows import MalformedRowError
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
from vidreason.near_texts import TextIndex, normalised_words

SUFFIX = "_open_ended"
_LIST_NUMBER = re.compile(r"^\d+\. ", re.MULTILINE)
_FIELDS = {
    "explanation": ("causal_explanation",),
    "prediction": ("prediction", "predictions", "outcome", "futures"),
}
"""Fields of a row, by the example that they make."""


def open_ended_split(corpus: CorpusConfig) -> CorpusConfig:
    """The open-ended set that is drawn from a corpus: ``test_open_ended`` of ``test``."""
    return replace(corpus, split=f"{corpus.split}{SUFFIX}", limit=None)


def unshared_ids(
    tested: Iterable[Example], train: Iterable[Example], min_similarity: float
) -> set[str]:
    """Ids of the examples with a reference that no training text has, nor nearly has.

    Args:
        tested: Held in memory.
        train: Read once, one by one.
        min_similarity: From which share of common three-word sequences on two texts are nearly the
            same; texts of fewer than 8 words have to be equal.
    """
    index = TextIndex(min_similarity)
    # Equal texts are told of several videos: they are compared once.
    by_text: dict[str, list[str]] = {}
    for example in tested:
        for text in _forms(example.response):
            by_text.setdefault(text, []).append(example.id)
            index.add(text, text)
    shared: set[str] = set()
    for example in train:
        for text in _forms(example.response) | _forms(compared_text(example)):
            shared.update(match.name for match in index.find_all(text))
            shared |= {text} & by_text.keys()
    of_shared = {id for text in shared for id in by_text[text]}
    return {id for ids in by_text.values() for id in ids} - of_shared


def open_ended_rows(corpus: CorpusConfig, ids: Collection[str]) -> Iterator[str]:
    """Yield the lines of an open-ended set: the rows of a split, with the fields of some examples.

    Args:
        corpus: Of the reader ``causal_vid_instruct``.
        ids: The examples that stay. A row without one is left out.
    """
    # Malformed rows make no examples; whoever read the examples has counted them.
    skipped = SkippedRows(max_malformed_fraction=1.0, quiet=True)
    for row in read_json_lines(Files(corpus.root), f"{corpus.split}.jsonl", skipped):
        try:
            name = f"causal_vid_instruct:{corpus.split}:{row.id('id')}"
        except MalformedRowError:
            continue
        fields: dict[str, Any] = dict(row)
        kept = [kind for kind in _FIELDS if f"{name}:{kind}" in ids]
        for kind, names in _FIELDS.items():
            for field in names if kind not in kept else ():
                fields.pop(field, None)
        if kept:
            yield json.dumps(fields) + "\n"


def _forms(text: str) -> set[str]:
    """The words of a text with and without numbers of a list; none of one without a word."""
    texts = (text, _LIST_NUMBER.sub("", text))
    return {" ".join(words) for one in texts if (words := normalised_words(one))}
