"""``evaluate compare A B``: how two runs on the same questions differ, and whether they may be."""

import argparse
from collections.abc import Sequence

from experiments.experiment_config import ExperimentConfig
from experiments.kept_runs import prediction_files, read_run
from experiments.program import exit_status
from vidreason.config import merge_config
from vidreason.evaluation.comparison import (
    Run,
    check_same_items,
    comparability,
    comparison_tables,
)
from vidreason.evaluation.scoreboard import scoring_protocols


def compare(argv: Sequence[str]) -> int:
    """Print the comparison.

    Returns: 0; 1 where something differs that has to agree; 2 where the questions differ.
    """
    parser = argparse.ArgumentParser(
        prog="python -m experiments.evaluate compare",
        description="The paired difference of two runs, A - B, in each group of questions, with "
        "its interval over videos and p-values corrected by Holm; and what their answers were "
        "made with that differs. The exit status is 1 where that makes them incomparable, and 2 "
        "for runs on different questions.",
    )
    parser.add_argument("first", metavar="A", help="a run folder, or a file of predictions")
    parser.add_argument("second", metavar="B")
    parser.add_argument(
        "--control", default="none", help="which row of run folders; default: none, the full model"
    )
    parser.add_argument("--config", action="append", default=[], metavar="FILE")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value")
    arguments = parser.parse_intermixed_args(list(argv))
    return exit_status("evaluate compare", lambda: _compare(arguments))


def _compare(arguments: argparse.Namespace) -> int:
    config = merge_config(ExperimentConfig, arguments.config, arguments.overrides)
    first, second = (
        _read(place, name, arguments.control, config)
        for place, name in ((arguments.first, "A"), (arguments.second, "B"))
    )
    check_same_items(first, second)
    verdict = comparability(first, second)
    for run, place in ((first, arguments.first), (second, arguments.second)):
        hashes = "no manifest" if run.manifest is None else f"manifest {run.manifest.hash}"
        print(f"{run.name}: {place}, {hashes}")
    for line in verdict.compared:
        print(f"  differs, and is what is compared: {line}")
    if verdict.against:
        print("NOT COMPARABLE: what has to agree does not")
        for line in verdict.against:
            print(f"  {line}")
    tables = comparison_tables(
        first, second, scoring_protocols(config.evaluation), comparable=not verdict.against
    )
    print("\n\n".join(["", *(table.to_text() for table in tables)]))
    return 1 if verdict.against else 0


def _read(place: str, name: str, control: str, config: ExperimentConfig) -> Run:
    files = prediction_files(place)
    if len(files) > 1 and control not in files:
        raise ValueError(
            f"{place!r} has no predictions under the control {control!r}; it has "
            f"{', '.join(files)}: set --control"
        )
    path = files[control] if control in files else next(iter(files.values()))
    return read_run(path, name, config.data)
