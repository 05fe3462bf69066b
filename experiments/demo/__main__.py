"""The whole system on the microworld, on a CPU: ``python -m experiments.demo [key=value ...]``.

World, perception, both stages, evaluation, answers, report: each part calls the program that does
it for real corpora. All of it lies below ``run_dir``; started again, it does what is not done yet.
"""

import sys
from collections.abc import Sequence

from experiments.demo.config import QUICK, DemoConfig
from experiments.program import exit_status
from experiments.writer_lock import sole_writer
from vidreason.config import config_parser, merge_config


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status is that of :func:`experiments.program.exit_status`."""
    parser = config_parser(
        "python -m experiments.demo",
        "The whole system on a small embedded world, on a CPU.",
        DemoConfig,
    )
    arguments = parser.parse_intermixed_args(argv)

    def load() -> DemoConfig:
        config = merge_config(DemoConfig, arguments.config, arguments.overrides)
        # A file may set it, too: it is known when all is read. The given overrides come last, and
        # win over those of quick.
        if config.quick:
            overrides = [*QUICK, *arguments.overrides]
            config = merge_config(DemoConfig, arguments.config, overrides)
        return config

    def run(config: DemoConfig) -> None:
        from experiments.demo.run import demo

        with sole_writer(config.run_dir, "demo"):
            demo(config)

    return exit_status("demo", run, load)


if __name__ == "__main__":
    sys.exit(main())
