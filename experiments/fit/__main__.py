"""Train one stage, as ``python -m experiments.fit --config FILE.yaml key.sub=value``.

A run that was stopped or killed continues from its newest checkpoint when it is started again.
"""

import sys
from collections.abc import Sequence

from experiments.program import lazy, run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Train; the exit status is that of :func:`experiments.program.exit_status`."""
    return run_program(
        lazy("experiments.fit.run:fit"), program="fit", description="Train one stage.", argv=argv
    )


if __name__ == "__main__":
    sys.exit(main())
