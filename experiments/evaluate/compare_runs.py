"""``evaluate compare A B``: how two runs on the same questions differ, and whether they may be."""

import argparse

from experiments.experiment_config import ExperimentConfig
from experiments.kept_runs import read_control
from vidreason.config import merge_config
from vidreason.evaluation.comparison import (
    check_same_items,
    comparability,
    comparison_tables,
)
from vidreason.evaluation.scoreboard import scoring_protocols


def compare(arguments: argparse.Namespace) -> int:
    """Print the comparison of the runs ``first`` and ``second``.

    Returns: 0, or 1 where something differs that has to agree.

    Raises:
        ValueError: The questions differ.
    """
    config = merge_config(ExperimentConfig, arguments.config, arguments.overrides)
    first, second = (
        read_control(path, arguments.control, name, config.data)
        for path, name in ((arguments.first, "A"), (arguments.second, "B"))
    )
    check_same_items(first, second)
    verdict = comparability(first, second)
    for run, path in ((first, arguments.first), (second, arguments.second)):
        hashes = "no manifest" if run.manifest is None else f"manifest {run.manifest.hash}"
        print(f"{run.name}: {path}, {hashes}")
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
