"""``experiments.runs`` tells what became of each run."""

import json
import os

import pytest

from experiments.runs import main


def write_run(folder, *, time="2026-01-01", end=None, starts=1, lock="", metrics=""):
    folder.mkdir(parents=True)
    entries = [{"time": time}] * (starts - 1) + [{"time": time, **({"end": end} if end else {})}]
    (folder / "run.json").write_text(json.dumps({"starts": entries}))
    (folder / "config.yaml").write_text("stage: instruction\nrun_dir: x\n")
    (folder / "fit.lock").write_text(lock)
    if metrics:
        (folder / "metrics.csv").write_text(metrics)


def cell(corpus, group, accuracy):
    return {"corpus": corpus, "group": group, "accuracy": accuracy}


def table(capsys):
    lines = capsys.readouterr().out.splitlines()
    return [line.split() for line in lines if not line.startswith("-")][1:]


def test_states_and_results(tmp_path, capsys):
    metrics = "step,train/loss,val/loss\n9,1.5,\n10,,1.25\n19,1.125,\n"
    end = {"step": 20, "cause": "finished"}
    write_run(tmp_path / "b", time="2026-01-02", end=end, starts=2, metrics=metrics)
    (tmp_path / "b" / "evaluation").mkdir()
    cells = [
        {**cell("nextqa", "all", 0.5), "low": 0.375, "high": 0.625, "num_questions": 64},
        {**cell("nextqa", "C", 0.25), "low": 0.1, "high": 0.4, "num_questions": 32},
        {**cell("star", "all", 1.0), "low": None, "high": None, "num_questions": 1},
    ]
    (tmp_path / "b" / "evaluation" / "metrics.json").write_text(
        json.dumps({"runs": {"full model": cells}})
    )
    write_run(tmp_path / "a" / "deep", metrics=metrics)
    write_run(tmp_path / "c", time="2026-01-03", lock="{}")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "run.json").write_text("[]")  # not ours
    assert main([str(tmp_path)]) == 0
    header, *rows = table(capsys)
    assert header == ["run", "stage", "state", "step", "loss", "val/loss", "starts", "accuracy"]
    assert rows == [
        ["a/deep", "instruction", "killed", "19", "1.125", "1.250", "1", "-"],
        [
            *("b", "instruction", "finished", "20", "1.125", "1.250", "2"),
            *("nextqa", "50.0", "[37.5,", "62.5]", "n=64,", "star", "100.0", "[-]", "n=1"),
        ],
        ["c", "instruction", "running", "-", "-", "-", "1", "-"],
    ]


def test_a_process_that_is_silent_does_not_run(tmp_path, capsys):
    write_run(tmp_path / "a", lock="{}")
    os.utime(tmp_path / "a" / "fit.lock", (0, 0))
    assert main([str(tmp_path)]) == 0
    assert table(capsys)[1][2] == "killed"


@pytest.mark.parametrize("name", ["absent", ""])
def test_nothing_to_list(name, tmp_path, capsys):
    assert main([str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("runs: ")
    assert str(tmp_path / name) in error
