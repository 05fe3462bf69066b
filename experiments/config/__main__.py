"""Print the resolved configuration, checked, as YAML that every program reads back.

With ``--explain``, print instead what it is made of and what it takes: its parts with their sizes,
licences and learning rates, the tokens of a sample, and the memory that training and answering need
on each device. No weights are downloaded or read.

With ``--describe [KEY]``, print what keys mean, their types and defaults; with ``--reference`` the
page of all of them, which is ``docs/configuration.md``; with ``--schema`` their JSON Schema, by
which editors complete and check YAML files.
"""

import argparse
import json
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


def print_keys(arguments: argparse.Namespace) -> None:
    """Print what the keys mean, in the form that is asked for.

    Raises:
        ValueError: There is no such key.
    """
    from experiments.config import describe

    if arguments.schema:
        print(json.dumps(describe.json_schema(), indent=1))
    elif arguments.reference:
        print(describe.reference(), end="")
    else:
        print(describe.describe(arguments.describe))


def main(argv: Sequence[str] | None = None) -> int:
    """Print one or the other."""
    parser = config_parser(
        "python -m experiments.config",
        "Print the resolved configuration as YAML.",
        ExperimentConfig,
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="print its parts, their licences, and the memory that they take instead",
    )
    parser.add_argument(
        "--describe",
        nargs="?",
        const="",
        metavar="KEY",
        help="say what a key means, or all keys that contain KEY; without KEY, list all keys",
    )
    parser.add_argument("--reference", action="store_true", help="print all keys as Markdown")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of a file")
    # Intermixed: overrides may stand before and behind options.
    arguments = parser.parse_intermixed_args(argv)
    if arguments.describe is not None or arguments.reference or arguments.schema:
        return exit_status("config", lambda: print_keys(arguments))
    return exit_status(
        "config",
        print_explanation if arguments.explain else print_config,
        lambda: merge_config(ExperimentConfig, arguments.config, arguments.overrides),
    )


if __name__ == "__main__":
    sys.exit(main())
