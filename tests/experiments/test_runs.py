"""``experiments.runs`` tells what became of each run, and of which step a number is."""

import json
import os
import socket
import subprocess
import sys

import pytest

from experiments.runs import main


def write_run(folder, *, time="2026-01-01", end=None, starts=1, total=None, lock="", metrics=""):
    folder.mkdir(parents=True)
    last = {"time": time, "total_steps": total, **({"end": end} if end else {})}
    entries = [{"time": time}] * (starts - 1) + [last]
    (folder / "run.json").write_text(json.dumps({"starts": entries}))
    (folder / "config.yaml").write_text("stage: instruction\nrun_dir: x\n")
    (folder / "fit.lock").write_text(lock)
    if metrics:
        (folder / "metrics.csv").write_text(metrics)
    return folder


def cell(corpus, group, accuracy, **interval):
    measured = {"low": None, "high": None, "num_questions": 1, **interval}
    return {"corpus": corpus, "group": group, "accuracy": accuracy, **measured}


def write_evaluation(run, metrics):
    (run / "evaluation").mkdir()
    (run / "evaluation" / "metrics.json").write_text(json.dumps(metrics))


def rows(folder, capsys):
    """The cells of each row by the names of their columns."""
    assert main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    header, *listed = [
        [cell.strip() for cell in line.split("  ") if cell.strip()]
        for line in lines[1:]
        if not line.startswith("-")
    ]
    return [dict(zip(header, row, strict=True)) for row in listed]


METRICS = "step,train/loss,val/loss\n9,1.5,\n9,,1.25\n18,1.125,\n"


def test_numbers_stand_beside_the_step_that_they_are_of(tmp_path, capsys):
    run = write_run(
        tmp_path / "b",
        time="2026-01-02",
        end={"step": 20, "cause": "finished"},
        total=20,
        starts=2,
        metrics=METRICS,
    )
    cells = [
        cell("nextqa", "all", 0.5, low=0.375, high=0.625, num_questions=64),
        cell("nextqa", "C", 0.25),
        cell("star", "all", 1.0),
    ]
    # Evaluated before the run went on.
    write_evaluation(run, {"model": "b/reasoner", "step": 10, "runs": {"full model": cells}})
    write_run(tmp_path / "a" / "deep", metrics=METRICS, total=30)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "run.json").write_text("[]")  # not ours
    assert rows(tmp_path, capsys) == [
        {
            **{"run": "a/deep", "stage": "instruction", "state": "killed", "step": "19 of 30"},
            **{"loss": "1.125 at step 19", "val/loss": "1.250 at step 10", "starts": "1"},
            "accuracy": "-",
        },
        {
            **{"run": "b", "stage": "instruction", "state": "finished", "step": "20 of 20"},
            **{"loss": "1.125 at step 19", "val/loss": "1.250 at step 10", "starts": "2"},
            "accuracy": "nextqa 50.0 [37.5, 62.5] n=64, star 100.0 [-] n=1 at step 10",
        },
    ]


def test_scores_of_another_model_are_said_to_be_of_it(tmp_path, capsys):
    cells = [cell("star", "all", 1.0)]
    for name, model, row in (
        ("a", "hub/other", "full model"),
        ("b", "none", "blip2 [exact]"),
    ):
        run = write_run(tmp_path / name)
        write_evaluation(run, {"model": model, "runs": {row: cells}})
    assert [row["accuracy"] for row in rows(tmp_path, capsys)] == [
        "star 100.0 [-] n=1 of hub/other",
        "star 100.0 [-] n=1 of blip2 [exact]",
    ]


@pytest.mark.parametrize(
    ("cause", "state"),
    [
        ("finished", "finished"),
        ("stopped by trainer.stop_after_steps", "stopped"),
        ("stopped early: no improvement", "stopped early"),
        ("Stopped: 75", "stopped"),
        ("KeyboardInterrupt: ", "stopped"),
        ("DivergedError: step 4: loss nan", "failed: DivergedError"),
    ],
)
def test_the_state_is_how_the_run_ended(tmp_path, capsys, cause, state):
    write_run(tmp_path / "a", end={"step": 4, "cause": cause}, total=9)
    (row,) = rows(tmp_path, capsys)
    assert (row["state"], row["step"]) == (state, "4 of 9")


def test_only_a_process_that_is_there_is_running(tmp_path, capsys):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = {"program": "fit", "host": socket.gethostname(), "since": "now"}
    locks = {
        "a": json.dumps({**here, "pid": os.getpid()}),
        "b": json.dumps({**here, "pid": ended.pid}),
        "c": json.dumps({**here, "pid": ended.pid, "host": "another"}),
        "d": json.dumps({**here, "pid": ended.pid, "host": "another, silent"}),
    }
    for name, lock in locks.items():
        write_run(tmp_path / name, lock=lock)
    os.utime(tmp_path / "d" / "fit.lock", (0, 0))
    states = [row["state"] for row in rows(tmp_path, capsys)]
    assert states == ["running", "killed", "running", "killed"]


@pytest.mark.parametrize(
    ("metrics", "loss"),
    [
        (METRICS + "19,1.0", "1.125 at step 19"),  # a kill has torn the last row
        ("step,train/loss\n1,x\n", "-"),
        ("step,train/loss\nx,1.0\n", "-"),
        ("epoch,train/loss\n1,1.0\n", "-"),
    ],
)
def test_a_damaged_table_of_metrics_keeps_no_run_from_the_list(tmp_path, capsys, metrics, loss):
    write_run(tmp_path / "a", metrics=metrics)
    write_run(tmp_path / "b", time="2026-01-02")
    (tmp_path / "b" / "metrics.csv").write_bytes(b"step,\xff\n1,1\n")
    (tmp_path / "b" / "config.yaml").write_bytes(b"\xff")
    assert [row["loss"] for row in rows(tmp_path, capsys)] == [loss, "-"]


@pytest.mark.parametrize("name", ["absent", ""])
def test_nothing_to_list(name, tmp_path, capsys):
    assert main([str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("runs: ")
    assert str(tmp_path / name) in error
