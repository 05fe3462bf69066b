"""Checks of the commands that the documentation shows, which run none of them.

A program's own parser reads the words, and its own dataclass takes the configuration files and the
settings. Files that a command reads are in the checkout, are shown by a page, or lie below a folder
that another documented command writes.
"""

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments.experiment_config import ExperimentConfig
from vidreason.config import ConfigurationError, merge_config

OTHERS = {
    "git": "clones the repository",
    "hf": "the Hub's own program; downloads and uploads",
    "sbatch": "SLURM's",
}
"""Programs that are not of this project, and what they are there for."""

_SCRIPT_PROGRAM = re.compile(r"-m (experiments\.\w+)")
_FILE_SUFFIX = re.compile(r"\.(yaml|jsonl?|mp4|ckpt|pth|safetensors|sbatch|txt|py|md)$")
_QUOTED_PATH = re.compile(r"[\"']([\w.-]+(?:/[\w.-]+)+)[\"']")
_OUTPUTS = ("run_dir", "store.path", "--output-dir")
"""Options whose paths are written, and need not be there."""


class Parsed(BaseException):
    """Raised in place of parsing: the parser, and the words that it was given."""

    def __init__(self, parser: argparse.ArgumentParser, words: Sequence[str], how: str) -> None:
        super().__init__()
        self.parser = parser
        self.words = words
        self.how = how


def parser_of(module: str, words: Sequence[str]) -> Parsed:
    """Return what ``python -m module words`` would parse, by its own parser.

    Raises:
        ValueError: There is no such program.
    """
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"there is no program {module}")
    is_folder = importlib.util.find_spec(module).submodule_search_locations is not None
    program = importlib.import_module(f"{module}.__main__" if is_folder else module)
    with pytest.MonkeyPatch.context() as patch:
        for how in ("parse_args", "parse_intermixed_args"):

            def stop(self: Any, args: Any = None, namespace: Any = None, *, how: str = how) -> None:
                raise Parsed(self, args, how)

            patch.setattr(argparse.ArgumentParser, how, stop)
        try:
            program.main(list(words))
        except Parsed as parsed:
            return parsed
        except SystemExit as error:
            raise ValueError(f"{module} does not take {words[:1]}") from error
    raise ValueError(f"{module} parses no command line")


def option_names(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options of a parser and of its commands."""
    names = {name for action in parser._actions for name in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                names |= option_names(command)
    return names


def is_placeholder(word: str) -> bool:
    """Tell whether a word stands for something of the reader's: it is in capitals."""
    stem = Path(word).stem
    return stem.isupper() and stem.replace("_", "").replace("-", "").isalnum()


class CheckedCommand:
    """A command, checked in the folder where it would be run.

    Args:
        folder: Has the checkout's folders, and the files that pages show.
        words: Of the command.

    Attributes:
        problems: All but files that are not there.
        missing: Files that it reads and that are not there; another command may write them.
        written: Folders that it writes.
    """

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        self._folder = folder
        self.missing: list[str] = []
        self.written: list[str] = []
        self.problems: list[str] = []
        try:
            self._check(words)
        except (ValueError, ConfigurationError, SyntaxError) as error:
            self.problems.append(str(error))

    def missing_after(self, written: Sequence[str]) -> list[str]:
        """Return the missing files that do not lie below a folder of ``written``."""
        return [
            path
            for path in self.missing
            if not any(Path(path).is_relative_to(folder) for folder in written)
        ]

    def _check(self, words: Sequence[str]) -> None:
        program = words[0]
        if list(words[:2]) == ["python", "-m"] and words[2].startswith("experiments."):
            self._check_program(words[2], words[3:])
        elif program == "vidreason":
            self._check_program("vidreason.cli", words[1:])
            if words[1] == "export":
                self.written.append(words[3])
        elif program == "make":
            self._check_targets(words[1:])
        elif program == "pip" or list(words[:3]) == ["python", "-m", "pip"]:
            self._read([word for word in words if word.startswith("./")])
            targets = [words[at + 1] for at, word in enumerate(words) if word == "--target"]
            self.written += targets
        elif program == "sbatch":
            self._check_job(words[1:])
        elif program == "python":
            self._check_script(words[1:])
        elif program not in OTHERS:
            self.problems.append(f"there is no program {program}")

    def _check_program(self, module: str, words: Sequence[str]) -> None:
        parsed = parser_of(module, words)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "error", _refuse)
            arguments = getattr(parsed.parser, parsed.how)(parsed.words)
        values = vars(arguments)
        schema = getattr(parsed.parser, "schema", None)
        if "overrides" in values and (schema is not None or values["overrides"]):
            self._configure(schema or ExperimentConfig, values)
        free = [values.get(name) for name in ("path", "paths", "first", "second", "run", "video")]
        free += [values.get(name) for name in ("checkpoint", "model")]
        free += [values["folder"]] if module == "experiments.runs" else []  # export writes one
        flat = [word for one in free for word in (one if isinstance(one, list) else [one])]
        self._read([str(word) for word in flat if isinstance(word, str | Path)])

    def _configure(self, schema: type[Any], values: dict[str, Any]) -> None:
        overrides = [word.replace("%a", "0") for word in values["overrides"]]
        files = [file for file in values.get("config", []) if not is_placeholder(file)]
        self._read(files)
        config = merge_config(schema, [file for file in files if Path(file).exists()], overrides)
        pairs = [word.partition("=") for word in overrides]
        inputs = [value for key, _, value in pairs if key not in _OUTPUTS]
        self._read([value for value in inputs if _FILE_SUFFIX.search(value)])
        run_dir = getattr(config, "run_dir", "")
        self.written += [run_dir] if run_dir else []

    def _read(self, paths: Sequence[str]) -> None:
        for path in paths:
            is_path = "/" in path or _FILE_SUFFIX.search(path)
            is_elsewhere = is_placeholder(path) or "://" in path or path.startswith("/")
            if is_path and not is_elsewhere and not (self._folder / path).exists():
                self.missing.append(path)

    def _check_script(self, words: Sequence[str]) -> None:
        """A script is there; it may write whatever it names, as may the code after ``-c``."""
        if words[0] == "-c":
            ast.parse(words[1])
            self.written += _QUOTED_PATH.findall(words[1])
            return
        self._read(words[:1])
        self.written += [word for word in words[1:] if "=" not in word]

    def _check_targets(self, words: Sequence[str]) -> None:
        makefile = (self._folder / "Makefile").read_text()
        for word in words:
            name, is_variable, _ = word.partition("=")
            line = rf"^{re.escape(name)}:" if not is_variable else rf"\$\({re.escape(name)}\)"
            if not re.search(line, makefile, re.MULTILINE):
                self.problems.append(f"the Makefile has no {name}")
        if "demo" in words:
            self.written.append("runs/demo")

    def _check_job(self, words: Sequence[str]) -> None:
        """A command in ``--wrap``, or a script that passes its arguments to a program."""
        if "--wrap" in words:
            self._check(shlex.split(words[words.index("--wrap") + 1]))
            return
        script = next(word for word in words if not word.startswith("-"))
        self._read([script])
        if self.missing:
            return
        named = _SCRIPT_PROGRAM.findall((self._folder / script).read_text())
        assert named, f"{script} starts no program"
        self._check_program(named[-1], words[words.index(script) + 1 :])


def _refuse(parser: argparse.ArgumentParser, message: str) -> None:
    raise ValueError(f"{parser.prog}: {message}")
