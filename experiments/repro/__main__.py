"""Do steps of a recorded run again and compare: ``python -m experiments.repro RUN``.

RUN is a run's folder. Its first steps are done again in a temporary folder, or those after
``--checkpoint FILE``, by a process of ``experiments.fit`` with the recorded configuration and
number of processes on this machine. Compared bit by bit are the ids of the samples, where the run
recorded them (``trainer.record_samples``), the losses that it logged, and the trained weights at
its checkpoints and its end, so that a run of a few steps can be compared, too. The exit status is 0
if all are equal, 1 at a difference, 2 if there is nothing to compare. Start it where the run was
started, for the relative paths of its configuration.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.program import exit_status
from vidreason.command_line import CommandLineParser

NUM_STEPS = 10
"""Optimizer steps that are done again, unless ``--steps`` says how many."""


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and compare."""
    parser = CommandLineParser(
        prog="python -m experiments.repro",
        description="Do steps of a recorded run again and compare them bit by bit.",
    )
    parser.add_argument("run", metavar="RUN", help="the run's folder")
    parser.add_argument("--steps", type=int, default=NUM_STEPS, help="how many optimizer steps")
    parser.add_argument(
        "--checkpoint", default="", help="begin after this checkpoint, not at the first step"
    )
    arguments = parser.parse_args(argv)
    if arguments.steps < 1:
        parser.error(f"--steps is {arguments.steps}; it must be at least 1")

    def run() -> int:
        from experiments.repro.run import repro

        return repro(Path(arguments.run), arguments.steps, arguments.checkpoint)

    return exit_status("repro", run)


if __name__ == "__main__":
    sys.exit(main())
