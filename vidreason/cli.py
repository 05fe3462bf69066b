"""The ``vidreason`` command. Heavy imports stay inside the commands, so ``--help`` is quick."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vidreason import __version__
from vidreason.closed_pipe import CLOSED_PIPE_STATUS, discard_stdout, stdout_is_closed
from vidreason.command_line import CommandLineParser
from vidreason.cores import use_threads, wait_passively
from vidreason.secrets import printable, without_secrets

if TYPE_CHECKING:
    from vidreason.answer import Answer

CANDIDATES = ("beam", "nucleus", "greedy")
"""Methods of :class:`vidreason.reasoning.reasoner_config.FuturesConfig`."""
_MAX_MESSAGE_CHARS = 4000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, 2 after a mistake in the call, 1 for a bad video.

    It is 141 if nobody reads the output any more.
    """
    # Before torch, which reads these settings when it is imported.
    wait_passively()
    parser = CommandLineParser(
        prog="vidreason",
        description="Why something happened in a video, and what happens next.",
    )
    parser.add_argument("--version", action="version", version=f"vidreason {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(
        commands.add_parser("demo", help="the whole system on a small embedded world, on a CPU")
    )
    _add_ask(commands.add_parser("ask", help="answer a question about a video"))
    _add_chat(commands.add_parser("chat", help="ask several questions about a video"))
    _add_sample(
        commands.add_parser("sample", help="name a sample video that comes with the package")
    )
    _add_export(
        commands.add_parser("export", help="make a reasoner folder of a training checkpoint")
    )
    arguments = parser.parse_args(argv)
    try:
        status = int(arguments.run(arguments))
        # A closed pipe may show only here, when the last lines are written.
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Another pipe than stdout: that is a fault of ours.
        if not stdout_is_closed():
            raise
        discard_stdout()
        return CLOSED_PIPE_STATUS
    except CommandError as error:
        # It may quote files and services, with secrets and escapes of the terminal in them.
        message = printable(without_secrets(str(error)), _MAX_MESSAGE_CHARS)
        print(f"vidreason {arguments.command}: {message}", file=sys.stderr)
        return error.status


class CommandError(Exception):
    """A failure to tell the user in one line.

    Attributes:
        status: The exit status.
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make videos, perceive, train both stages, evaluate and answer. Needs a checkout."
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="passed to experiments.demo"
    )
    parser.set_defaults(run=run_demo)


def _add_ask(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", help="video file")
    parser.add_argument("question", nargs="?", default="", help="what to ask about the video")
    _add_model_and_span(parser)
    parser.add_argument(
        "--predict",
        action="store_true",
        help="ask for the most likely next events: computed probabilities, expected times, the "
        "model's justifications and confidences, and the parts of the video they rest on",
    )
    parser.add_argument(
        "--why",
        action="store_true",
        help="ask for a step-by-step causal explanation of how the video ends",
    )
    parser.add_argument(
        "--candidates",
        choices=CANDIDATES,
        help="with --predict: how candidates for the next event are found (default: the model's "
        "own way, normally beam)",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as a JSON object")
    parser.set_defaults(run=run_ask)


def _add_chat(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Read questions about one video, a line each, and answer them; each may refer to those "
        "before it. The end of the input ends the conversation."
    )
    parser.add_argument("video", help="video file")
    _add_model_and_span(parser)
    parser.set_defaults(run=run_chat)


def _add_model_and_span(parser: argparse.ArgumentParser) -> None:
    """Add what all commands that answer about a video take."""
    parser.add_argument(
        "--model",
        default="",
        metavar="FOLDER_OR_HUB_ID",
        help="reasoner folder, such as runs/demo/stage2/reasoner, or repository on the Hugging "
        "Face Hub (default: the reasoner that comes with the package)",
    )
    _add_parts(parser)
    parser.add_argument(
        "--start", type=float, metavar="SECONDS", help="start of the span to look at"
    )
    parser.add_argument("--end", type=float, metavar="SECONDS", help="end of the span to look at")
    parser.add_argument(
        "--device", default="cpu", help="cpu, cuda, cuda:1 or auto (default: %(default)s)"
    )


def _add_sample(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "List the sample videos with their paths, or print the path of one: "
        'vidreason ask "$(vidreason sample NAME)" --predict'
    )
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="which one")
    parser.set_defaults(run=run_sample)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a folder that `vidreason ask --model` and VideoReasoner.from_pretrained read: "
        "what was trained, with references to the frozen parts."
    )
    parser.add_argument(
        "checkpoint",
        metavar="RUN_OR_CHECKPOINT",
        help="run folder, for its newest checkpoint, or a checkpoint in one",
    )
    parser.add_argument("folder", metavar="OUT", help="folder to write; a reasoner's is replaced")
    parser.add_argument(
        "--merged",
        action="store_true",
        help="put the language model into the folder, with LoRA merged into its weights",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of the trained weights in the files (default: the dtype that they have)",
    )
    parser.add_argument(
        "--metrics",
        default="",
        metavar="FILE",
        help="scores for the model card: metrics.json of evaluate, or tables in a Markdown file",
    )
    parser.add_argument(
        "--licence",
        default="",
        metavar="SPDX",
        help="licence of what was trained, for the model card, such as CC0-1.0",
    )
    parser.add_argument(
        "--push", default="", metavar="REPO", help="upload the folder to this Hub repository"
    )
    parser.add_argument(
        "--public", action="store_true", help="with --push: a new repository is not private"
    )
    _add_parts(parser)
    parser.set_defaults(run=run_export)


def _add_parts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="where a frozen part lies (language_model, video_encoder, segmenter), if not where it "
        "lay in training; repeatable",
    )


def run_demo(arguments: argparse.Namespace) -> int:
    """Run ``experiments.demo`` in a process of its own; a wheel does not carry the programs."""
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / "experiments" / "demo" / "__main__.py").is_file():
        raise CommandError(
            "the demo trains a model with the programs of the repository, which an installed wheel "
            "does not carry: clone the repository, `pip install -e .` there, and run it again"
        )
    command = [sys.executable, "-m", "experiments.demo", *arguments.overrides]
    return subprocess.run(command, check=False).returncode


def run_ask(arguments: argparse.Namespace) -> int:
    """Perceive the video, print the answer."""
    # Mistakes in the call are said before imports that take seconds.
    if sum((bool(arguments.question), arguments.predict, arguments.why)) != 1:
        raise CommandError("give a question, --predict or --why: one of them")
    if arguments.candidates and not arguments.predict:
        raise CommandError("--candidates is how --predict finds events: leave it out, or predict")
    frozen_parts = parts_by_name(arguments.part)

    import transformers

    from vidreason.pipeline import load
    from vidreason.video.failures import VideoReadError

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    use_threads()
    span = {"start": arguments.start, "end": arguments.end}
    answer: Answer
    try:
        model = load(arguments.model, arguments.device, frozen_parts=frozen_parts)
        if arguments.predict:
            answer = model.predict(arguments.video, **span, method=arguments.candidates or "")
        elif arguments.why:
            # Evidence is shown in JSON alone, and costs a likelihood for each part of the video.
            answer = model.explain(arguments.video, **span, evidence=arguments.json)
        else:
            question = arguments.question
            answer = model.ask(arguments.video, question, **span, evidence=arguments.json)
    except VideoReadError as error:
        raise CommandError(str(error), status=1) from error
    except (ValueError, FileNotFoundError) as error:
        raise CommandError(" ".join(str(error).split())) from error
    print(answer.to_json() if arguments.json else answer)
    for warning in () if arguments.json else answer.warnings:  # JSON has them in the object
        print(f"vidreason ask: {printable(warning)}", file=sys.stderr)
    return 0


def run_chat(arguments: argparse.Namespace) -> int:
    """Answer the lines of the input until it ends; a question that cannot be asked is said."""
    frozen_parts = parts_by_name(arguments.part)

    import io

    import transformers

    from vidreason.pipeline import load
    from vidreason.video.failures import VideoReadError

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    use_threads()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # what is no UTF-8 is no reason to end
    try:
        model = load(arguments.model, arguments.device, frozen_parts=frozen_parts)
        # The video is looked at before the first question is read.
        chat = model.chat(arguments.video, start=arguments.start, end=arguments.end)
    except VideoReadError as error:
        raise CommandError(str(error), status=1) from error
    except (ValueError, FileNotFoundError) as error:
        raise CommandError(" ".join(str(error).split())) from error
    # For those who type; a file of questions needs none.
    mark = "> " if sys.stdin.isatty() else ""
    while True:
        print(mark, end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return 0
        if not line.strip():
            continue
        try:
            answer = chat.ask(line.strip(), evidence=False)
        except ValueError as error:
            print(f"vidreason chat: {printable(str(error), _MAX_MESSAGE_CHARS)}", file=sys.stderr)
            continue
        print(answer, flush=True)
        for warning in answer.warnings:
            print(f"vidreason chat: {printable(warning)}", file=sys.stderr)


def run_sample(arguments: argparse.Namespace) -> int:
    """Print the path of a sample video, or the names and paths of all."""
    from vidreason.microworld.shipped import sample_videos

    samples = sample_videos()
    if not samples:
        raise CommandError("this installation carries no sample video; give ask one of yours")
    if not arguments.name:
        print("\n".join(f"{name}\t{path}" for name, path in samples.items()))
    elif arguments.name in samples:
        print(samples[arguments.name])
    else:
        raise CommandError(
            f"there is no sample {arguments.name!r}; the samples are {', '.join(samples)}"
        )
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """Write the folder, upload it if asked to, and say where it is."""
    frozen_parts = parts_by_name(arguments.part)

    import dataclasses
    import json

    import torch
    import transformers

    from vidreason.export import reasoner_of_checkpoint
    from vidreason.pretrained.hub import upload
    from vidreason.pretrained.published import published_copy, told_by

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        reasoner, provenance = reasoner_of_checkpoint(arguments.checkpoint, frozen_parts)
        provenance = dataclasses.replace(provenance, licence=arguments.licence)
        if arguments.metrics.endswith(".md"):
            tables = Path(arguments.metrics).read_text()
            provenance = dataclasses.replace(provenance, tables=tables)
        elif arguments.metrics:
            metrics = json.loads(Path(arguments.metrics).read_text())
            if not isinstance(metrics, dict) or "runs" not in metrics:
                raise ValueError(
                    f"--metrics {arguments.metrics!r} has no 'runs'; give the metrics.json that "
                    "experiments.evaluate writes"
                )
            provenance = dataclasses.replace(provenance, metrics=metrics)
        form: Literal["trained", "merged"] = "merged" if arguments.merged else "trained"
        dtype = getattr(torch, arguments.dtype) if arguments.dtype else None
        reasoner.save_pretrained(arguments.folder, form, provenance, dtype=dtype)
        print(f"{arguments.folder}: {provenance.checkpoint}, form {form!r}")
        if arguments.push:
            with published_copy(Path(arguments.folder)) as copy:
                # What still tells of this machine, though the paths of parts are replaced.
                for line in told_by(copy):
                    print(f"vidreason export: warning: publishes {line}", file=sys.stderr)
            print(upload(arguments.folder, arguments.push, private=not arguments.public))
    except (ValueError, OSError) as error:
        raise CommandError(" ".join(str(error).split())) from error
    return 0


def parts_by_name(arguments: Sequence[str]) -> dict[str, str]:
    """``NAME=PATH`` of the command line as a dictionary."""
    parts = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not (name and equals and path):
            raise CommandError(f"--part {argument!r} is not of the form NAME=PATH")
        parts[name] = path
    return parts
