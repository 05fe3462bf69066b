"""Ablations in one command: ``python -m experiments.ablate --config FILE.yaml [key=value ...]``.

Every variant is trained and evaluated under every seed. Runs share the feature store and whatever
else is equal in them. Started again, the program does what is not done yet. The tables, which it
writes each time, are in ``<run_dir>/results``, the runs in ``<run_dir>/jobs``.
"""

import sys
from collections.abc import Sequence

from experiments.ablate.config import StudyConfig
from experiments.program import lazy, run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Run a study; the exit status is that of :func:`experiments.program.exit_status`."""
    return run_program(
        lazy("experiments.ablate.run:ablate"),
        program="ablate",
        description="Train and evaluate variants times seeds, and compare them.",
        argv=argv,
        schema=StudyConfig,
    )


if __name__ == "__main__":
    sys.exit(main())
