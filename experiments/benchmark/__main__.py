"""Measure parts of the framework against what they replace: ``python -m experiments.benchmark``.

Each benchmark runs both sides in one process and in turns, counts CPU time, which other programs on
the machine change little, and says whether the results are the same. With ``--gpu`` wall time of
the first CUDA device is measured instead, by the benchmarks that have this option.

Set ``OMP_NUM_THREADS=1``: several threads that wait for each other burn CPU time.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from callbacks.run_record import software_and_hardware
from experiments.benchmark import decode, generate, masks, options, step
from experiments.benchmark.reports import write_report
from experiments.program import exit_status

BENCHMARKS: dict[str, ModuleType] = {
    "decode": decode,
    "masks": masks,
    "step": step,
    "options": options,
    "generate": generate,
}
"""By the name of the sub-command: modules with ``add_arguments(parser)``, ``run(arguments)``, which
returns numbers, and ``tables(numbers)``, which makes Markdown of them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, measure, and print the numbers as JSON."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, module in BENCHMARKS.items():
        command = commands.add_parser(name, description=module.__doc__)
        module.add_arguments(command)
        command.add_argument("--output-dir", type=Path, help="also write JSON and Markdown there")
    arguments = parser.parse_args(given)

    def measure() -> None:
        name = arguments.benchmark
        numbers = BENCHMARKS[name].run(arguments)
        measured = {
            "benchmark": name,
            "command": ["python", "-m", "experiments.benchmark", *given],
            "machine": software_and_hardware(),
            **numbers,
        }
        if arguments.output_dir is not None:
            tables = BENCHMARKS[name].tables(measured)
            write_report(arguments.output_dir, name, measured, tables)
        print(json.dumps(measured, indent=2))

    return exit_status("benchmark", measure)


if __name__ == "__main__":
    sys.exit(main())
