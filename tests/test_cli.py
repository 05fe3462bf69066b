import os
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from vidreason import cli
from vidreason.reasoning.reasoner_config import FuturesConfig

HEAVY = ("torch", "transformers", "lightning", "peft", "numpy", "av", "omegaconf")


def test_help_is_quick_because_nothing_heavy_is_imported():
    command = [sys.executable, "-X", "importtime", "-m", "vidreason.cli", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & set(HEAVY)


def test_ask_without_a_question_says_what_is_missing(capsys):
    assert cli.main(["ask", "a.mp4"]) == 2
    missing = capsys.readouterr().err
    assert missing == "vidreason ask: give a question, --predict or --why: one of them\n"
    assert cli.main(["ask", "a.mp4", "why?", "--why"]) == 2
    assert capsys.readouterr().err == missing


def test_a_message_holds_no_secret_and_no_escape_of_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    assert (
        cli.main(["ask", "v", "why", "--model", "m", "--part", "\x1b[2J hf_0123456789abcdef"]) == 2
    )
    error = capsys.readouterr().err
    assert r"\x1b[2J [secret]" in error
    assert error.count("\n") == 1


def test_demo_of_a_checkout_starts_the_program(monkeypatch):
    commands = []
    finished = subprocess.CompletedProcess([], 0)
    run = subprocess.run
    monkeypatch.setattr(
        cli.subprocess, "run", lambda command, **_: commands.append(command) or finished
    )
    assert cli.main(["demo", "quick=true"]) == 0
    ((python, *arguments),) = commands
    assert arguments == ["-m", "experiments.demo", "quick=true"]
    # The program is there, and takes a command line.
    checkout = Path(cli.__file__).parents[1]
    help_of_it = [python, "-m", "experiments.demo", "--help"]
    assert run(help_of_it, cwd=checkout, check=True, capture_output=True).stdout


def test_demo_of_an_installed_wheel_says_that_it_needs_the_checkout(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "site-packages" / "vidreason" / "cli.py"))
    assert cli.main(["demo"]) == 2
    assert "clone the repository" in capsys.readouterr().err


def test_ask_names_the_methods_that_the_configuration_knows(capsys):
    assert set(get_args(get_type_hints(FuturesConfig)["method"])) == set(cli.CANDIDATES)
    with pytest.raises(SystemExit):
        cli.main(["ask", "a.mp4", "--predict", "--candidates", "tea leaves"])
    assert "'beam', 'nucleus', 'greedy'" in capsys.readouterr().err


def test_candidates_without_a_prediction_are_refused(capsys):
    for question in ("why?", "--why"):
        assert cli.main(["ask", "a.mp4", question, "--candidates", "greedy"]) == 2
        assert "--candidates is how --predict finds events" in capsys.readouterr().err


def test_output_that_nobody_reads_ends_the_command_without_a_trace():
    unread, output = os.pipe()
    os.close(unread)
    command = [sys.executable, "-c", "from vidreason.cli import main; exit(main(['sample']))"]
    done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    os.close(output)
    assert (done.returncode, done.stderr) == (141, "")
