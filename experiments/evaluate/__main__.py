"""Score a trained reasoner on the benchmark corpora, beside controls that see less.

Every answer is written down when it is given: started again after a kill, the program answers what
is missing. Under ``torchrun`` or ``srun``, or with ``trainer.devices=N``, several processes share
the questions. In ``<run_dir>/evaluation`` are then ``predictions-<control>.jsonl``,
``metrics.json``, ``tables.md`` and ``report.html``, a page that shows single questions as well; the
first line of the predictions says what they were made with.

``--from RUN_DIR`` or ``--from predictions.jsonl`` computes all scores again, without a model;
``compare A B`` says how far two runs differ, and whether they may be compared.
"""

import sys
from collections.abc import Sequence

from experiments.evaluate.compare_runs import compare
from experiments.evaluate.rescore import FROM, rescore
from experiments.evaluate.run import evaluate
from experiments.program import run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, score kept predictions again, or compare two runs."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["compare"]:
        return compare(arguments[1:])
    if any(argument.partition("=")[0] == FROM for argument in arguments):
        return rescore(arguments)
    return run_program(
        evaluate,
        program="evaluate",
        description="Score a reasoner on the benchmark corpora. Besides: `--from PATH` scores kept "
        "predictions again, `compare A B` compares two runs; each has a --help of its own.",
        argv=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
