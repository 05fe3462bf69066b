"""Print the resolved configuration, checked, as YAML that every program reads back.

With ``--explain``, print instead what it is made of and what it takes: its parts with their sizes,
licences and learning rates, the tokens of a sample, and the memory that training and answering need
on each device. No weights are downloaded or read.
"""

import sys
from collections.abc import Sequence

from experiments.experiment_config import ExperimentConfig
from experiments.program import run_program
from vidreason.config import ConfigurationError, to_yaml


def print_config(config: ExperimentConfig) -> None:
    """Print ``config`` with all its defaults."""
    print(to_yaml(config), end="")


def print_explanation(config: ExperimentConfig) -> None:
    """Print what ``config`` is made of, and what it takes.

    Raises:
        ConfigurationError: ``fit`` would refuse it, on any machine; the tables are printed first.
    """
    from experiments.config.explain import (
        explain,  # the models' code, which printing YAML needs not
    )
    from experiments.start_checks.checks import find_problems

    problems = find_problems(config, "explain")
    print(explain(config))
    if problems:
        raise ConfigurationError(problems)


def main(argv: Sequence[str]) -> int:
    """Print one or the other."""
    return run_program(
        print_explanation if "--explain" in argv else print_config,
        program="config",
        description="Print the resolved configuration as YAML; or, with --explain, its parts, "
        "their licences, and the memory that they take.",
        argv=[argument for argument in argv if argument != "--explain"],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
