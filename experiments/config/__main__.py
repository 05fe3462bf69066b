"""Print the resolved configuration, checked, as YAML that every program reads back.

With ``--explain``, print instead what it is made of and what it takes: its parts with their sizes,
licences and learning rates, the tokens of a sample, and the memory that training and answering need
on each device. No weights are downloaded or read.
"""

import sys
from collections.abc import Sequence

from experiments.experiment_config import ExperimentConfig
from experiments.program import exit_status
from vidreason.config import ConfigurationError, config_parser, merge_config, to_yaml


def print_config(config: ExperimentConfig) -> None:
    """Print ``config`` with all its defaults."""
    print(to_yaml(config), end="")


def print_explanation(config: ExperimentConfig) -> None:
    """Print the parts of ``config`` and the memory that they take.

    Raises:
        ConfigurationError: ``fit`` would refuse it, on any machine; the tables are printed first.
    """
    from experiments.config.explain import explain
    from experiments.start_checks.checks import find_problems

    problems = find_problems(config, "explain")
    print(explain(config))
    if problems:
        raise ConfigurationError(problems)


def main(argv: Sequence[str] | None = None) -> int:
    """Print one or the other."""
    parser = config_parser(
        "python -m experiments.config", "Print the resolved configuration as YAML."
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="print its parts, their licences, and the memory that they take instead",
    )
    arguments = parser.parse_intermixed_args(argv)
    return exit_status(
        "config",
        print_explanation if arguments.explain else print_config,
        lambda: merge_config(ExperimentConfig, arguments.config, arguments.overrides),
    )


if __name__ == "__main__":
    sys.exit(main())
