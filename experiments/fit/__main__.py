"""Train one stage, as ``python -m experiments.fit --config FILE.yaml key.sub=value``.

A run that was stopped or killed goes on from its newest checkpoint when it is started again.
"""

import sys

from experiments.fit.run import fit
from experiments.program import run_program

if __name__ == "__main__":
    sys.exit(run_program(fit, program="fit", description="Train one stage."))
