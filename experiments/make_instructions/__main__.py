"""Make an instruction set: ``python -m experiments.make_instructions --config FILE.yaml``.

Clips are sampled, a teacher is asked about each, its answers pass the quality gate, and the set is
written into ``<run_dir>/set``. ``dry_run=true`` says what it would cost, and sends nothing. The
same command goes on with a run that was stopped or killed; no reply is paid for twice.
"""

import sys
from collections.abc import Sequence

from experiments.make_instructions.config import MakeInstructionsConfig
from experiments.program import lazy, run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Make the set; the exit status is that of :func:`experiments.program.exit_status`.

    It is also 1 where the budget ended the run before all clips were asked about.
    """
    return run_program(
        lazy("experiments.make_instructions.run:make_instructions"),
        program="make_instructions",
        description="Make a synthetic instruction set with a teacher model, or without one.",
        argv=argv,
        schema=MakeInstructionsConfig,
    )


if __name__ == "__main__":
    sys.exit(main())
