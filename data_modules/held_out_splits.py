"""Splits that nothing may be chosen on: settings, checkpoints and stopping are for others.

A number of a test split says what other questions would give only as long as it decided nothing.
"""

import re

from data_modules.corpora import CorpusConfig
from data_modules.readers import reader_named

# `test`, `Test`, `test_public`, `validation+test` and `testmini`, but not `latest`.
_TEST = re.compile(r"(?<![a-z])test", re.IGNORECASE)


def is_test_split(config: CorpusConfig) -> bool:
    """Tell whether a corpus is a test split, by the name of its split.

    Of a benchmark that was released as a test alone, such as MVBench, every split is one, whatever
    it is called.
    """
    released = reader_named(config.reader).num_questions
    return bool(_TEST.search(config.split)) or set(released) == {"test"}
