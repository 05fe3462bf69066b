"""Train one stage, as ``python -m experiments.fit --config FILE.yaml key.sub=value``.

A run that was stopped or killed continues from its newest checkpoint when it is started again.
"""

import sys
from collections.abc import Sequence

from experiments.experiment_config import ExperimentConfig
from experiments.program import run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Train; the exit status is that of :func:`experiments.program.exit_status`."""

    def run(config: ExperimentConfig) -> None:
        from experiments.fit.run import fit

        fit(config)

    return run_program(run, program="fit", description="Train one stage.", argv=argv)


if __name__ == "__main__":
    sys.exit(main())
