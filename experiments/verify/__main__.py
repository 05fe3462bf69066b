"""Measure a verifier: ``python -m experiments.verify verifier.model=FOLDER run_dir=DIR``.

Planted errors of five kinds about videos that nothing was trained or chosen on: how well does the
verifier tell them from true steps? Weights of its signals and its threshold are fitted before, on
videos of another split, and written to ``verifier.json``, which ``verifier.calibration`` takes.
``summary.json``, ``tables.md`` and ``claims.jsonl`` have the numbers. Claims that were verified
before are not verified again.
"""

import sys
from collections.abc import Sequence

from experiments.program import lazy, run_program
from experiments.verify.config import VerifyConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; the exit status is that of :func:`experiments.program.exit_status`."""
    return run_program(
        lazy("experiments.verify.run:verify"),
        program="verify",
        description="Measure a verifier on planted errors.",
        argv=argv,
        schema=VerifyConfig,
    )


if __name__ == "__main__":
    sys.exit(main())
