"""Measure parts of the framework against what they replace: ``python -m experiments.benchmark``.

Each benchmark runs both sides in one process and in turns, counts CPU time, which other programs on
the machine change little, and says whether the results are the same.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from experiments.benchmarks import decode, masks
from experiments.program import exit_status

BENCHMARKS = {"decode": decode, "masks": masks}
"""By the name of the sub-command: modules with ``add_arguments(parser)`` and ``run(arguments)``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, measure, and print the numbers as JSON."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, module in BENCHMARKS.items():
        module.add_arguments(commands.add_parser(name, description=module.__doc__))
    arguments = parser.parse_args(argv)

    def measure() -> None:
        measured = BENCHMARKS[arguments.benchmark].run(arguments)
        print(json.dumps(measured, indent=2))

    return exit_status("benchmark", measure)


if __name__ == "__main__":
    sys.exit(main())
