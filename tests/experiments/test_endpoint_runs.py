"""An endpoint as a baseline through ``evaluate``: its budget, outages, and what is kept of them."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from loopback import KEY, ByRequest, Loopback, Request, http, reply

from experiments.evaluate import __main__ as program
from vidreason.evaluation.predictions.row_files import read_predictions, read_predictions_file


@pytest.fixture
def configuration(
    filmed_experiment: tuple[Path, Path], loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    monkeypatch.setenv("TEST_KEY", KEY)
    config: dict[str, Any] = yaml.safe_load(filmed_experiment[0].read_text())
    config |= {"model": "none", "controls": ["none", "blind"]}
    config["evaluation"] = {"batch_size": 2, "report_items": 0}
    config["baselines"] = {
        "served": {
            "kind": "endpoint",
            "weights": {"model": "m"},
            "num_frames": 2,
            "endpoint": {
                "base_url": loopback.url,
                "api_key_variable": "TEST_KEY",
                "max_attempts": 1,
            },
        }
    }
    return config


def run(tmp_path: Path, config: dict[str, Any], *more: str) -> int:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return program.main(["--config", str(file), f"run_dir={tmp_path / 'run'}", *more])


def has_pictures(request: Request) -> bool:
    return not isinstance(request.body["messages"][0]["content"], str)


def test_a_run_ends_at_its_budget_and_goes_on_from_there(
    configuration: dict[str, Any],
    loopback: Loopback,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    loopback.script(ByRequest(lambda request: reply(f"A. {KEY}")))
    folder = tmp_path / "run" / "evaluation"
    assert run(tmp_path, configuration, "baselines.served.max_requests=3") == 1
    error = capsys.readouterr().err
    assert "max_requests=3 requests are spent" in error
    assert "Traceback" not in error
    (part,) = folder.glob("predictions-served.*.part")
    assert len(read_predictions_file(part, may_be_torn=True).predictions) == 2
    assert len(loopback.requests) == 3
    assert run(tmp_path, configuration) == 0
    rows = read_predictions(folder / "predictions-served.jsonl")
    blind = read_predictions(folder / "predictions-served-blind.jsonl")
    assert {row.output for row in [*rows, *blind]} == {"A. [secret]"}
    shown = [request for request in loopback.requests if has_pictures(request)]
    sent = {str(request.body) for request in loopback.requests}
    assert len(sent) == len(loopback.requests), "one was paid for twice"
    assert len(shown) == len(rows)
    # Other settings need another folder; what was paid for is not paid for again.
    paid = len(loopback.requests)
    for file in folder.rglob("*"):
        if file.is_file():
            assert KEY[:8].encode() not in file.read_bytes()
            file.unlink()
    assert run(tmp_path, configuration, "evaluation.batch_size=3") == 0
    assert len(loopback.requests) == paid
    tables = (folder / "tables.md").read_text().replace("\\", "")
    assert "served [endpoint]" in tables
    assert "random option" in tables
    assert "Reported elsewhere (not measured here)" in tables
    for file in (tmp_path / "run").rglob("*"):
        assert not file.is_file() or KEY[:8].encode() not in file.read_bytes()


def test_an_outage_is_a_line_and_a_missing_key_is_said_at_the_start(
    configuration: dict[str, Any],
    loopback: Loopback,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loopback.script(http(503, b"down"))
    assert run(tmp_path, configuration) == 1
    error = capsys.readouterr().err
    assert "status 503: down; start again to go on from here" in error
    assert "Traceback" not in error
    monkeypatch.delenv("TEST_KEY")
    requests = len(loopback.requests)
    assert run(tmp_path, configuration, "decoding.strategy=beam") == 2
    error = capsys.readouterr().err
    assert "baselines.served: the environment variable TEST_KEY is not set" in error
    assert "baselines.served: decoding.strategy is 'beam'" in error
    assert len(loopback.requests) == requests
