"""Train a baseline: ``python -m experiments.train_baseline --config FILE.yaml [key=value ...]``.

``kind`` says which. What is written to ``run_dir`` is read by ``evaluate``, as the ``weights`` of a
baseline. Started again after a stop, it goes on from the last whole epoch.
"""

import sys
from collections.abc import Sequence

from experiments.program import run_program
from experiments.train_baseline.config import KINDS, TrainBaselineConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Train; the exit status is that of :func:`experiments.program.exit_status`."""
    return run_program(
        lambda config: KINDS[config.kind](config),
        program="train_baseline",
        description="Train a baseline of which no weights were released.",
        argv=argv,
        schema=TrainBaselineConfig,
    )


if __name__ == "__main__":
    sys.exit(main())
