"""Sweeps in one command: ``python -m experiments.sweep --config FILE.yaml [key=value ...]``.

Trials are one configuration with other values for some keys: all combinations (``grid``), random
draws, or draws that Optuna proposes from what it has seen. Each is trained and evaluated once;
equal trials are one. The best is chosen on validation questions, and then answers the test split,
once. Started again, the program does what is not done yet. ``<run_dir>/results`` has the tables.
"""

import sys
from collections.abc import Sequence

from experiments.program import lazy, run_program
from experiments.sweep.config import SweepConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sweep; the exit status is that of :func:`experiments.program.exit_status`."""
    return run_program(
        lazy("experiments.sweep.run:sweep"),
        program="sweep",
        description="Try values of configuration keys: grid, random, or Optuna.",
        argv=argv,
        schema=SweepConfig,
    )


if __name__ == "__main__":
    sys.exit(main())
