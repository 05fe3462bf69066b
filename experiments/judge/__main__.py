"""Have free answers judged: ``python -m experiments.judge predictions=FILE.jsonl judge.model=...``.

It reads predictions that ``evaluate`` wrote and asks a judge about the open-ended ones: alone, or
with ``against=OTHER.jsonl`` each against another run's answer in both orders. In ``output_dir`` are
then ``judgements.jsonl``, ``summary.json`` and ``tables.md``. Outputs are kept in a cache: started
again after a stop, no judge is asked twice.
"""

import sys
from collections.abc import Sequence

from experiments.judge.config import JudgeProgramConfig
from experiments.program import lazy, run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Judge; the exit status is that of :func:`experiments.program.exit_status`."""
    return run_program(
        lazy("experiments.judge.run:judge"),
        program="judge",
        description="Have free answers judged on the paper's axes.",
        argv=argv,
        schema=JudgeProgramConfig,
    )


if __name__ == "__main__":
    sys.exit(main())
