"""Fill the feature store: perceive every video of the configured corpora once.

Entries that the store holds are skipped, so a killed run is started again with the same command.
Any number of runs may fill one store at once; as a SLURM array they share the videos among them:
``sbatch --array=0-99 ... python -m experiments.perceive --config FILE.yaml``.
"""

import sys

from experiments.perceive.run import perceive
from experiments.program import run_program

if __name__ == "__main__":
    sys.exit(
        run_program(
            perceive,
            program="perceive",
            description="Fill the feature store with the corpora's videos.",
        )
    )
