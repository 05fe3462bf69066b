"""Steps of a recorded run, done again: equal bits, or the first difference and what may be why."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from callbacks.run_record import read_starts
from experiments.experiment_config import ExperimentConfig
from experiments.fit.metrics_log import MetricsLog
from experiments.fit.run import fit
from experiments.repro import run as program
from experiments.repro.__main__ import main
from experiments.repro.run import compare, repro
from vidreason.config import merge_config


def write_run(folder: Path, *, losses=(2.0, 1.5, 1.25), ids="abcdef", weights="0f") -> Path:
    folder.mkdir()
    log = MetricsLog(str(folder))
    with (folder / "samples-rank0.jsonl").open("w") as samples:
        for step, loss in enumerate(losses):
            log.log_metrics({"train/loss": loss}, step=step)
            batch_ids = list(ids[2 * step : 2 * step + 2])
            line = {"step": step, "epoch": 0, "batch": step, "ids": batch_ids}
            samples.write(json.dumps(line) + "\n")
    (folder / "weights.jsonl").write_text(json.dumps({"step": 2, "hash": weights}) + "\n")
    return folder


def differences(first: Path, second: Path, steps: range = range(3)) -> list[str | None]:
    return [comparison.first_difference() for comparison in compare(first, second, steps)]


def test_equal_records_do_not_differ(tmp_path):
    first, second = write_run(tmp_path / "first"), write_run(tmp_path / "second")
    assert differences(first, second) == [None] * 3
    assert [len(c.common) for c in compare(first, second, range(1, 2))] == [1, 1, 1]


def test_the_first_difference_of_each_kind_is_told(tmp_path):
    first = write_run(tmp_path / "first")
    second = write_run(
        tmp_path / "second", losses=(2.0, 1.5000001, 1.0), ids="abcxey", weights="aa"
    )
    assert differences(first, second) == [
        "samples differ first at step 1 (rank0, micro-batch 1 of epoch 0): recorded ['c', 'd'], "
        "now ['c', 'x']",
        "losses differ first at step 1: recorded 1.5, now 1.5000001",
        "weights differ first at step 2: recorded 0f, now aa",
    ]
    # Outside of the steps that are compared.
    assert differences(first, second, range(1)) == [None] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "holds no run.json: it is no folder of a run"), (["--checkpoint", "x"], "no run.json")],
)
def test_what_is_no_run_is_refused_in_a_line(tmp_path, capsys, arguments, message):
    assert main([str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def write_short_run(folder: Path, *, logged: bool, saved: int | None) -> Path:
    """A run that was told to stop after three steps, as far as it recorded them."""
    write_run(folder, losses=(2.0, 1.5, 1.25) if logged else ())
    (folder / "samples-rank0.jsonl").unlink()
    weights = "" if saved is None else json.dumps({"step": saved, "hash": "0f"}) + "\n"
    (folder / "weights.jsonl").write_text(weights)
    (folder / "run.json").write_text(json.dumps({"starts": [{"end": {"step": 3}}]}))
    (folder / "config.yaml").write_text("trainer: {checkpoint_every_n_steps: 2}\n")
    return folder


@pytest.mark.parametrize(("logged", "saved"), [(True, None), (False, 3), (False, 2), (True, 3)])
def test_a_run_of_few_steps_is_done_again_as_far_as_it_came(
    tmp_path, capsys, monkeypatch, logged, saved
):
    run = write_short_run(tmp_path / "run", logged=logged, saved=saved)
    stops = []

    def run_again(run_dir, again, start, checkpoint, stop):
        stops.append(stop)
        again.rmdir()
        shutil.copytree(run_dir, again)

    monkeypatch.setattr(program, "_run_again", run_again)
    assert main([str(run)]) == 0
    assert stops == [3]
    hint = "(trainer.{} says what is recorded)".format
    assert capsys.readouterr().out.splitlines() == [
        f"{run}: steps 0 to 2 are done again",
        f"samples: 0 compared {hint('record_samples')}",
        "losses: 3 compared" if logged else f"losses: 0 compared {hint('log_every_n_steps')}",
        f"weights: 0 compared {hint('checkpoint_every_n_steps')}"
        if saved is None
        else "weights: 1 compared",
        "all bits are equal",
    ]


@pytest.mark.parametrize(
    ("saved", "steps", "message"),
    [
        (3, 1, r"nothing of the steps 0 to 0 .*log_every_n_steps is 10, .* 2\): give --steps 3"),
        (None, 9, "of the steps 0 to 2 .*: there is nothing to compare"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_done_again(
    tmp_path, monkeypatch, saved, steps, message
):
    run = write_short_run(tmp_path / "run", logged=False, saved=saved)
    monkeypatch.setattr(program, "_run_again", None)
    with pytest.raises(ValueError, match=message):
        repro(run, steps)
    (run / "run.json").write_text(json.dumps({"starts": [{}]}))
    (run / "weights.jsonl").write_text("")
    with pytest.raises(ValueError, match="recorded no step after step 0"):
        repro(run, steps)


@pytest.fixture(scope="module")
def recorded_run(tiny_experiment, tmp_path_factory) -> Path:
    """Four steps of the tiny experiment, with checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("repro") / "run"
    overrides = [f"run_dir={folder}", "trainer.stop_after_steps=4", "trainer.save_reasoner=false"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of the processes that do it again, too
    fit(merge_config(ExperimentConfig, [str(tiny_experiment)], overrides))
    torch.set_num_threads(threads)
    return folder


@pytest.mark.slow  # a process that imports torch
@pytest.mark.parametrize("checkpoint", ["", "checkpoints/step-00000002.ckpt"])
def test_a_run_is_done_again_bit_by_bit(recorded_run, checkpoint, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = ["--checkpoint", str(recorded_run / checkpoint)] if checkpoint else []
    status = main([str(recorded_run), "--steps", "2", *given])
    printed = capsys.readouterr()
    assert status == 0, printed
    first = 2 if checkpoint else 0
    lines = printed.out.splitlines()
    assert lines == [
        f"{recorded_run}: steps {first} to {first + 1} are done again",
        *("samples: 4 compared", "losses: 2 compared", "weights: 1 compared"),
        "all bits are equal",
    ]
    assert len(read_starts(recorded_run)) == 1


@pytest.mark.slow  # a process that imports torch
def test_a_run_that_came_out_otherwise_is_found_out(recorded_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = tmp_path / "run"
    shutil.copytree(recorded_run, run)
    record = json.loads((run / "run.json").read_text())
    record["starts"][0]["versions"]["torch"] = "1.0"
    (run / "run.json").write_text(json.dumps(record))
    recorded = run / "config.yaml"
    recorded.write_text(recorded.read_text().replace("learning_rate: 0.01", "learning_rate: 0.02"))
    assert main([str(run), "--steps", "2"]) == 1
    printed = capsys.readouterr().out
    assert "samples: 4 compared" in printed
    assert "samples differ" not in printed
    assert "losses differ first at step 1: recorded" in printed  # step 0 came before any update
    assert "weights differ first at step 2: recorded" in printed
    assert "may be why: version of torch was 1.0 in start 1, and is " in printed
    assert "may be why: trainer.deterministic is false" in printed
