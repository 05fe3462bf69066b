"""``--help`` of every program is quick: the command line is read before heavy imports."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
HEAVY = ("torch", "lightning", "transformers", "pyarrow", "av")
WITHOUT_MAIN = {"configs", "slurm", "start_checks"}

HELP_OF_ALL = """
import contextlib, importlib, io, json, sys
loaded = {}
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        module.main(["--help"])
    assert "usage: " in out.getvalue(), name
    loaded[name] = sorted(sys.modules)
    # Help comes before any complaint, and nothing is run.
    for before in (["no-command"], ["--config"], ["--no-option", "x=1", "y"], ["--from"]):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            try:
                status = module.main([*before, "--help"])
            except SystemExit as end:
                status = end.code
        assert not status and out.getvalue().startswith("usage: "), (name, before, status)
    assert sorted(sys.modules) == loaded[name], name
print(json.dumps(loaded))
"""


def programs() -> list[str]:
    """Modules with a command line: files that end in a call of ``main``, and ``__main__`` files."""
    files = [*EXPERIMENTS.glob("*.py"), *EXPERIMENTS.glob("*/__main__.py")]
    modules = [
        ".".join(path.relative_to(EXPERIMENTS.parent).with_suffix("").parts)
        for path in sorted(files)
        if 'if __name__ == "__main__":' in path.read_text()
    ]
    return [*modules, "vidreason.cli"]


def test_every_folder_of_a_program_has_a_main() -> None:
    folders = {path.name for path in EXPERIMENTS.iterdir() if any(path.glob("*.py"))}
    assert {name.split(".")[1] for name in programs() if name.endswith("__main__")} == (
        folders - WITHOUT_MAIN
    )


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """Return the modules imported after the ``--help`` of each program, one after the other."""
    command = [sys.executable, "-c", HELP_OF_ALL, *programs()]
    finished = subprocess.run(
        command, capture_output=True, text=True, cwd=EXPERIMENTS.parent, check=True
    )
    return json.loads(finished.stdout)


@pytest.mark.parametrize("program", programs())
def test_the_command_line_imports_nothing_heavy(program: str, loaded: dict[str, list[str]]) -> None:
    assert not set(HEAVY) & set(loaded[program])


def test_all_command_lines_have_one_parser() -> None:
    checkout = EXPERIMENTS.parent
    files = [*EXPERIMENTS.rglob("*.py"), *(checkout / "vidreason").rglob("*.py")]
    made = [path.name for path in files if "argparse.ArgumentParser(" in path.read_text()]
    assert not made, "make these a CommandLineParser"


def test_what_programs_import_when_they_run_is_there() -> None:
    targets = [
        target
        for path in EXPERIMENTS.glob("*/__main__.py")
        for target in re.findall(r'lazy\("([\w.]+:\w+)"\)', path.read_text())
    ]
    assert len(targets) >= 7
    for module, name in (target.split(":") for target in targets):
        source = (EXPERIMENTS.parent / f"{module.replace('.', '/')}.py").read_text()
        assert f"def {name}(" in source, (module, name)
