"""Look at checkpoints and change their form: ``python -m experiments.checkpoint inspect PATH``.

``inspect`` prints what a checkpoint is of and what is in it; with ``--config FILE`` and overrides,
as for ``experiments.fit``, also where its configuration differs from that one. ``convert PATH OUT
--to FORM`` writes the same checkpoint as a ``file``, as a ``distributed`` folder of torch, or as
``safetensors`` of the trained parameters alone (of their average, where there is one).
``consolidate PATH OUT`` makes one file of a folder: torch's distributed one, or DeepSpeed's, whose
optimizer state is left out.

PATH is a checkpoint, or a run folder, of which the newest is taken. Nothing is run that a
checkpoint holds, except that ``consolidate`` reads a folder of DeepSpeed by DeepSpeed's own means.
"""

import sys
from collections.abc import Sequence

from experiments.program import exit_status
from vidreason.command_line import CommandLineParser

FORMS = ("file", "distributed", "safetensors")
COMMANDS = {
    "inspect": "Print what a checkpoint says of itself and what it holds.",
    "consolidate": "Write a folder, torch's distributed one or DeepSpeed's, as one file.",
    "convert": "Write a checkpoint in another form.",
}
"""Descriptions by name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of ``COMMANDS``; the exit status is 2 for a wrong command or checkpoint."""
    rest = list(sys.argv[1:] if argv is None else argv)
    # Before the rest, since each command has options of its own.
    command = rest.pop(0) if rest and rest[0] in COMMANDS else ""
    parser = CommandLineParser(
        prog=f"python -m experiments.checkpoint {command or '{' + ','.join(COMMANDS) + '}'}",
        description=COMMANDS.get(command, __doc__),
    )
    parser.add_argument("path", help="a checkpoint, or a run folder")
    if command == "inspect":
        parser.add_argument("--tensors", action="store_true", help="also name each tensor")
        parser.add_argument("--config", action="append", default=[], metavar="FILE")
        parser.add_argument("overrides", nargs="*", metavar="key.sub=value")
    else:
        parser.add_argument("out", help="where to; nothing may be there")
    if command == "convert":
        parser.add_argument("--to", choices=FORMS, default="file", help="default: file")
    # Help comes before any complaint.
    if not command and not {"-h", "--help"} & set(rest):
        parser.error(f"the first argument must be one of {', '.join(COMMANDS)}")
    arguments = parser.parse_intermixed_args(rest)

    def run() -> None:
        from experiments.checkpoint import commands

        getattr(commands, command)(arguments)

    return exit_status("checkpoint", run)


if __name__ == "__main__":
    sys.exit(main())
