import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidreason import cli

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


def test_ask_without_a_model_says_how_to_get_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ask", "a.mp4", "why?"]) == 2
    error = capsys.readouterr().err
    assert "vidreason demo" in error
    assert "--model" in error


def test_the_default_model_is_the_demos_else_the_newest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for age, run in enumerate(["older", "newer"]):
        file = Path("runs", run, "reasoner", cli.REASONER_FILE)
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (age, age))
    assert cli.default_reasoner_folder() == "runs/newer/reasoner"
    demo = Path(cli.DEMO_REASONER, cli.REASONER_FILE)
    demo.parent.mkdir(parents=True)
    demo.touch()
    assert cli.default_reasoner_folder() == cli.DEMO_REASONER


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


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (
            "1. The ball falls. Because it rolls. Confidence: 0.8",
            "1. The ball falls.\nJustification: Because it rolls.\nConfidence: 0.8",
        ),
        ("no idea", "(could not be read as a prediction: no idea)"),
    ],
)
def test_predictions_are_shown_as_a_list(answer, shown):
    assert cli.answer_text(answer, predictions=True) == shown
    assert cli.answer_text(answer, predictions=False) == answer


def test_an_explanation_is_shown_as_a_list():
    answer = "The wall blocks it, so it stops.\nIt leaves."
    shown = "1. The wall blocks it, so it stops.\n2. It leaves."
    assert cli.explanation_text(answer) == cli.explanation_text(shown) == shown
    assert cli.explanation_text("...") == "..."


def test_an_answer_is_an_object_with_what_it_is_read_into():
    answer = "1. The wall blocks it, so it stops. Confidence: 0.8 \x1b \u00e9"
    assert cli.answer_json(answer).isascii()
    assert json.loads(cli.answer_json(answer)) == {"answer": answer}
    (step,) = json.loads(cli.answer_json("1. The wall blocks it, so it stops.", "steps"))["steps"]
    assert step == {
        "text": "The wall blocks it, so it stops.",
        "event": "The wall blocks it",
        "links": [{"cause": "The wall blocks it", "effect": "it stops"}],
    }
    (event,) = json.loads(cli.answer_json("1. It stops. Confidence: 80%", "predictions"))[
        "predictions"
    ]
    assert event == {"event": "It stops.", "justification": "", "confidence": 0.8}
