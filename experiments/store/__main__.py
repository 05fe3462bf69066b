"""Keep a feature store in order: ``python -m experiments.store verify --config FILE.yaml``.

``verify`` reads every entry and compares the index with the shards; ``repair=true`` sets damaged
files aside and keeps what is sound. ``stats`` counts what is there. ``gc`` lists what no configured
perceiver wants, and what killed writers and repairs have left; ``delete=true`` removes it.
"""

import sys
from collections.abc import Sequence

from experiments.program import lazy, run_program
from experiments.store.config import StoreCommandConfig

COMMANDS = ("verify", "stats", "gc")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 1 for a damaged store, 2 for a wrong command."""
    return run_program(
        {name: lazy(f"experiments.store.commands:{name}") for name in COMMANDS},
        program="store",
        description="Check a feature store, count what is in it, or remove what is not wanted.",
        argv=argv,
        schema=StoreCommandConfig,
    )


if __name__ == "__main__":
    sys.exit(main())
