"""The whole system on the microworld, on a CPU: ``python -m experiments.demo [key=value ...]``.

World, perception, both stages, evaluation, answers, report: each part calls the program that does
it for real corpora. All of it lies below ``run_dir``; started again, it does what is not done yet.
"""

import sys
from collections.abc import Sequence

from experiments.demo.run import QUICK, DemoConfig, demo
from experiments.program import exit_status
from experiments.writer_lock import sole_writer
from vidreason.config import load_config


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status is that of :func:`experiments.program.exit_status`."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def read(overrides: Sequence[str]) -> DemoConfig:
        return load_config(
            DemoConfig,
            overrides,
            program="python -m experiments.demo",
            description="The whole system on a small embedded world, on a CPU.",
        )

    def run() -> None:
        config = read(arguments)
        with sole_writer(config.run_dir, "demo"):
            demo(read([*QUICK, *arguments]) if config.quick else config)

    return exit_status("demo", run)


if __name__ == "__main__":
    sys.exit(main())
