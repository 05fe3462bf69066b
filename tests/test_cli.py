import json
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from vidreason import cli
from vidreason.reasoning.evidence import Evidence
from vidreason.reasoning.future_search import Forecast, Forecasts
from vidreason.reasoning.futures import Future
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
    # As where no event could be computed.
    assert cli.answer_text(answer, Forecasts((), 0, 0.0)) == shown
    assert cli.answer_text(answer) == answer


def test_an_explanation_is_shown_as_a_list():
    answer = "The wall blocks it, so it stops.\nIt leaves."
    shown = "1. The wall blocks it, so it stops.\n2. It leaves."
    assert cli.explanation_text(answer) == cli.explanation_text(shown) == shown
    assert cli.explanation_text("...") == "..."


def test_an_answer_is_an_object_with_what_it_is_read_into():
    answer = "1. The wall blocks it, so it stops. Confidence: 0.8 \x1b \u00e9"
    assert cli.answer_json(answer).isascii()
    assert json.loads(cli.answer_json(answer)) == {"answer": answer}
    (step,) = json.loads(cli.answer_json("1. The wall blocks it, so it stops.", steps=True))[
        "steps"
    ]
    assert step == {
        "text": "The wall blocks it, so it stops.",
        "event": "The wall blocks it",
        "links": [{"cause": "The wall blocks it", "effect": "it stops"}],
    }
    printed = cli.answer_json("1. It stops. Confidence: 80%", Forecasts((), 0, 0.0))
    assert json.loads(printed) == {
        "answer": "1. It stops. Confidence: 80%",
        "predictions": [{"event": "It stops.", "justification": "", "confidence": 0.8}],
        "futures": [],
        "num_events": 0,
        "covered_mass": 0.0,
    }


PARTS = (
    Evidence("track", 2, 0.5, 4.75, 2.306),
    Evidence("clip", None, 4.5, 6.0, 1.1),
    Evidence("track", 0, 3.0, 3.0, 0.4),
    Evidence("clip", None, 0.0, 1.5, 0.3),
)
FORECASTS = Forecasts(
    (
        Forecast(Future("the ball \x1b falls", -0.25, 0.625, "it rolls", 1.34), 0.8, PARTS),
        Forecast(Future("it stops", -2.0, 0.0004), None, (Evidence("clip", None, 0.0, 6.0, 0.01),)),
        Forecast(Future("nothing moves", -3.0, 0.0001), None, ()),
    ),
    9,
    0.934,
)


def test_computed_probabilities_are_told_from_printed_confidences():
    assert cli.answer_text("1. no", FORECASTS) == (
        "1. the ball \x1b falls\n"
        "Probability: 62.5% (computed)\n"
        "Confidence: 0.8 (printed)\n"
        "Justification: it rolls\n"
        "Expected: 1.3 s after the end (computed)\n"
        "Rests on: object 2, 0.5-4.8 s (2.31 nats); clip 4.5-6.0 s (1.10 nats); "
        "object 0, 3.0 s (0.40 nats)\n"
        "2. it stops\n"
        "Probability: 0.0% (computed)\n"
        "Rests on: no single part of the video\n"
        "3. nothing moves\n"
        "Probability: 0.0% (computed)\n"
        "(computed: shares of 9 events that were found, of all that the model may name 93%)"
    )
    value = json.loads(cli.answer_json("1. no", FORECASTS))
    assert (value["num_events"], value["covered_mass"]) == (9, 0.934)
    assert value["futures"][0] == {
        "event": "the ball \x1b falls",
        "log_likelihood": -0.25,
        "probability": 0.625,
        "justification": "it rolls",
        "seconds": 1.34,
        "confidence": 0.8,
        "evidence": [part._asdict() for part in PARTS],
    }
    assert len(value["futures"]) == 3


def test_ask_names_the_methods_that_the_configuration_knows(capsys):
    assert set(get_args(get_type_hints(FuturesConfig)["method"])) == set(cli.CANDIDATES)
    with pytest.raises(SystemExit):
        cli.main(["ask", "a.mp4", "--predict", "--candidates", "tea leaves"])
    assert "'beam', 'nucleus', 'greedy'" in capsys.readouterr().err
