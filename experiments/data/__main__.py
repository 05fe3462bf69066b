"""Look at the data before training on it: ``python -m experiments.data check --config FILE.yaml``.

``check`` reads the annotations of every corpus, looks whether the videos are there, opens a sample
of them, and compares the training data with what the model will be evaluated on: by video id, file,
text and pictures. It prints tables and writes ``data_health.json`` and the rows left out
(``data_check/skipped-*.jsonl``) into the run folder. The exit status is 1 if something is wrong
beyond the thresholds (``data_check.*``, ``data.max_unreadable_fraction``), and 2 for a wrong
configuration.

``show`` writes a page of training rows as the model gets them (``training_rows.html`` in the run
folder): frames, masks where the store has them, tokens, and which of these are targets.

``open_ended`` draws an open-ended test set (section 5.1.2) of each benchmark corpus in the form of
Causal-Vid-Instruct: the rows whose references are not nearly in any training text
(``data_check.min_text_similarity``). It writes ``SPLIT_open_ended.jsonl`` beside ``SPLIT.jsonl``,
to be evaluated as that split of the same corpus. The exit status is 1 if nothing is left.

``continuation`` makes a multiple-choice benchmark of the captions of ``data.benchmark``: the clip
before an event, and four events of which one comes next (``spans.*``). It writes
``continuation/SPLIT.jsonl`` into the run folder and prints the corpus that reads it. The exit
status is 1 if there is no question.
"""

import sys
from collections.abc import Sequence

from experiments.data.config import DataCommandConfig
from experiments.program import lazy, run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 1 for problems, 2 for a wrong command."""
    return run_program(
        {
            "check": lazy("experiments.data.check:check"),
            "show": lazy("experiments.data.show:show"),
            "open_ended": lazy("experiments.data.open_ended:open_ended"),
            "continuation": lazy("experiments.data.continuation:continuation"),
        },
        program="data",
        description="Report on the configured corpora, show rows, or draw a test set.",
        argv=argv,
        schema=DataCommandConfig,
    )


if __name__ == "__main__":
    sys.exit(main())
