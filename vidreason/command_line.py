"""The parser of all command lines: help is shown wherever it is asked for."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from typing_extensions import override

_HELP = ("-h", "--help")


class CommandLineParser(argparse.ArgumentParser):
    """Shows its help before it complains, also of what stands before ``--help``."""

    _given: Sequence[str] = ()

    @override
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does; all of its other methods come here."""
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    @override
    def error(self, message: str) -> NoReturn:
        """Print the help if it was asked for, else the error; either ends the program."""
        given = list(self._given)
        # Behind "--" nothing is an option.
        options = given[: given.index("--")] if "--" in given else given
        if any(name in options for name in _HELP):
            self.print_help()
            self.exit()
        super().error(message)
