"""Measure parts of the framework against what they replace: ``python -m experiments.benchmark``.

Each benchmark runs both sides in one process and in turns, counts CPU time, which other programs on
the machine change little, and says whether the results are the same. With ``--gpu`` wall time of
the first CUDA device is measured instead, by the benchmarks that have this option.

Set ``OMP_NUM_THREADS=1``: several threads that wait for each other burn CPU time.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmark import arguments as options_of
from experiments.program import exit_status
from vidreason.command_line import CommandLineParser

BENCHMARKS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], str]] = {
    "decode": ("decode", options_of.decode, "sampled frames of videos"),
    "masks": ("masks", options_of.masks, "masks on key frames"),
    "step": ("step", options_of.step, "a training step, and the framework around it"),
    "options": ("options", options_of.options, "scoring the options of questions"),
    "generate": ("generate", options_of.generate, "answering questions"),
    "index": ("index_scale", options_of.index, "the index of a corpus of any size"),
}
"""Module, options and help by name. A module has ``run(arguments)``, which returns numbers, and
``tables(numbers)``, which makes Markdown of them. Where it has ``measure_in_parts(arguments)``,
which gives all numbers so far after each part, a run that is killed has written them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, measure, and print the numbers as JSON."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = CommandLineParser(prog="python -m experiments.benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, (_, add_options, purpose) in BENCHMARKS.items():
        command = commands.add_parser(name, description=f"Measure {purpose}.", help=purpose)
        add_options(command)
        command.add_argument("--output-dir", type=Path, help="also write JSON and Markdown there")
    arguments = parser.parse_args(given)

    def measure() -> None:
        # After the command line: the imports of a run record take a time that --help should not.
        from callbacks.run_record import software_and_hardware
        from experiments.benchmark.reports import write_report

        name = arguments.benchmark
        module = importlib.import_module(f"experiments.benchmark.{BENCHMARKS[name][0]}")
        circumstances = {
            "benchmark": name,
            "command": ["python", "-m", "experiments.benchmark", *given],
            "machine": software_and_hardware(),
        }

        def report(numbers: dict[str, Any], *, complete: bool) -> None:
            measured = {**circumstances, "complete": complete, **numbers}
            if arguments.output_dir is not None:
                write_report(arguments.output_dir, name, measured, module.tables(measured))
            if complete:
                print(json.dumps(measured, indent=2))

        parts = getattr(module, "measure_in_parts", lambda options: [module.run(options)])
        numbers: dict[str, Any] = {}
        # Reports of parts say that more was to come; the last one, that it is complete.
        for numbers in parts(arguments):
            report(numbers, complete=False)
        report(numbers, complete=True)

    return exit_status("benchmark", measure)


if __name__ == "__main__":
    sys.exit(main())
