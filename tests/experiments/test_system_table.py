"""``evaluate table``: its command line, files and mistakes."""

import json
from pathlib import Path

import pytest

from experiments.evaluate.__main__ import main
from vidreason.evaluation.predictions.row_files import write_predictions
from vidreason.evaluation.predictions.rows import BenchmarkPrediction

HOSTILE = "<b>`|x`</b>"


def write(path: Path, right: str) -> Path:
    rows = [
        BenchmarkPrediction(
            id=f"nextqa:{number}",
            corpus="nextqa",
            video_id=str(number),
            question_type="CW",
            options=("yes", "no"),
            option_log_likelihoods=(0.0, -1.0) if flag == "1" else (-1.0, 0.0),
            reference=0,
        )
        for number, flag in enumerate(right)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(path, rows)
    return path


def test_a_row_is_of_run_folders_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, right in enumerate(("1111", "1110")):
        write(tmp_path / f"ours-{seed}" / "evaluation" / "predictions-none.jsonl", right)
        write(tmp_path / f"ours-{seed}" / "evaluation" / "predictions-blind.jsonl", "0000")
    rival = write(tmp_path / "rival.jsonl", "1000")
    rows = {"ours": [f"{tmp_path}/ours-0", f"{tmp_path}/ours-1"], HOSTILE: [str(rival)]}
    table = tmp_path / "rows.yaml"
    table.write_text(json.dumps({"rows": rows}))
    out = tmp_path / "out"
    assert main(["table", "--config", str(table), f"output_dir={out}"]) == 0
    assert "ours (2 seeds)" in capsys.readouterr().out
    written = json.loads((out / "systems.json").read_text())
    assert [cell["score"] for cell in written["cells"]] == [0.875, 0.25]
    assert written["cells"][1]["difference"] == -0.625
    assert written["rows"] == rows
    assert "does not say what its answers were made with" in written["notes"][0]
    assert HOSTILE not in (out / "systems.md").read_text()  # shown as text


def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "a.jsonl", "10")
    write(tmp_path / "run" / "predictions-one.jsonl", "10")
    write(tmp_path / "run" / "predictions-two.jsonl", "10")
    wrong = {
        f"rows.a=[{file}]": "expected two systems or more, found ['a']",
        f"rows={{a: [{file}], b: []}}": "rows.b is empty; name a file",
        f"rows={{a: [{file}, {file}], b: [{file}]}}": "twice; each seed is one file",
        f"rows={{a: [{file}], b: [{tmp_path}/absent]}}": "there are no predictions-*.jsonl",
        f"rows={{a: [{file}], b: [{tmp_path}/run]}}": "it has one, two: choose one of these",
    }
    for override, message in wrong.items():
        assert main(["table", override]) == 2, override
        assert message in capsys.readouterr().err
    assert main(["table", f"rows={{a: [{file}], b: [{file}]}}", "columns.nextqa=[]"]) == 2
    assert "columns.nextqa is empty" in capsys.readouterr().err
