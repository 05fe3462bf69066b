"""Score a trained reasoner on the benchmark corpora, beside controls that see less.

Every answer is written down when it is given: started again after a kill, the program answers what
is missing. Under ``torchrun`` or ``srun``, or with ``trainer.devices=N``, several processes share
the questions. In ``<run_dir>/evaluation`` are then ``predictions-<control>.jsonl``,
``metrics.json``, ``tables.md`` and ``report.html``, a page that shows single questions as well; the
first line of the predictions says what they were made with.

``--from RUN_DIR`` or ``--from predictions.jsonl`` computes all scores again, without a model;
``compare A B`` says how far two runs differ, and whether they may be compared; ``table`` puts any
number of systems, each under one or more seeds, into one.
"""

import sys
from collections.abc import Sequence

from experiments.evaluate.table_config import SystemTableConfig
from experiments.experiment_config import ExperimentConfig
from experiments.program import exit_status, lazy, run_program
from vidreason.command_line import CommandLineParser
from vidreason.config import config_parser

FROM = "--from"


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, score kept predictions again, compare two runs, or tabulate many."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # The other uses have command lines of their own.
    if arguments[:1] == ["compare"]:
        return _compare(arguments[1:])
    if arguments[:1] == ["table"]:
        return _table(arguments[1:])
    if any(argument.partition("=")[0] == FROM for argument in arguments):  # or --from=PATH
        return _rescore(arguments)
    return run_program(
        lazy("experiments.evaluate.run:evaluate"),
        program="evaluate",
        description="Score a reasoner on the benchmark corpora. Besides: `--from PATH` scores kept "
        "predictions again, `compare A B` compares two runs, `table` puts many into one; each has "
        "a --help of its own.",
        argv=arguments,
    )


def _compare(argv: Sequence[str]) -> int:
    parser = CommandLineParser(
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
    arguments = parser.parse_intermixed_args(argv)

    def run() -> int:
        from experiments.evaluate.compare_runs import compare

        return compare(arguments)

    return exit_status("evaluate compare", run)


def _table(argv: Sequence[str]) -> int:
    return run_program(
        lazy("experiments.evaluate.table:write_system_tables"),
        program="evaluate table",
        description="One table of systems, each under one or more seeds, from kept predictions: "
        "rows.TITLE=[RUN,RUN]. The others are compared with the first row.",
        argv=argv,
        schema=SystemTableConfig,
    )


def _rescore(argv: Sequence[str]) -> int:
    parser = config_parser(
        "python -m experiments.evaluate",
        "Score kept predictions again. Those of other systems, in the JSON of NExT-QA's or "
        "ActivityNet-QA's own scripts, need their corpus: data.benchmark=[{reader: nextqa, root: "
        "FOLDER, split: val}].",
        ExperimentConfig,
    )
    parser.add_argument(
        FROM,
        dest="paths",
        action="append",
        required=True,
        metavar="PATH",
        help="a run folder, or a file of predictions; repeatable",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="where the tables go; default: into the run folder's evaluation, else nowhere",
    )
    arguments = parser.parse_intermixed_args(argv)

    def run() -> None:
        from experiments.evaluate.rescore import rescore

        rescore(arguments)

    return exit_status("evaluate", run)


if __name__ == "__main__":
    sys.exit(main())
