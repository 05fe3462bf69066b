"""A whole study at its smallest: from the world to the tables."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.job_submission import submission_command, submit_jobs
from experiments.jobs import Job, job_key

CHECKOUT = Path(__file__).parents[2]
SHIPPED = CHECKOUT / "experiments" / "configs" / "ablations" / "microworld.yaml"
SMALL = (
    *("num_train_videos=12", "num_validation_videos=4", "num_test_videos=6"),
    *("questions_per_video=3", "num_workers=0", "num_shown_videos=1"),
    "stage1=[data.num_epochs=1]",
    "stage2=[data.num_epochs=1]",
)


def run_study(run_dir: Path, *further: str) -> None:
    """Run the program in a process of its own.

    It forks its jobs, which cannot train where this process has computed gradients before.
    """
    arguments = [
        *("--config", str(SHIPPED), f"run_dir={run_dir}", "only=[no_stage2,objects_2]"),
        *(f"microworld.demo.{override}" for override in SMALL),
        "both_stages=['data.validation=[]',data.batch_size=4,data.global_batch_size=4,"
        "optimizer.warmup_steps=1,trainer.log_every_n_steps=1,decoding.max_new_tokens=8]",
        "seeds=[0,1]",
        *further,
    ]
    command = [sys.executable, "-m", "experiments.ablate", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=1700)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_runs_shares_goes_on_and_leaves_its_tables(tmp_path):
    run_dir = tmp_path / "study"
    run_study(run_dir, "seeds=[0]")
    first = {path: path.read_bytes() for path in run_dir.glob("jobs/*/job.json")}
    run_study(run_dir)
    records = {path: json.loads(path.read_text()) for path in run_dir.glob("jobs/*/job.json")}
    assert first.items() <= {path: path.read_bytes() for path in records}.items()
    kinds = [path.parent.name.split("-")[0] for path in records]
    # Under each seed: stage 1 of full, which no_stage2 shares, and of objects_2; stage 2 of both.
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "perceive": 2,
        "stage1": 4,
        "stage2": 4,
        "evaluate": 6,
    }
    assert all(record["state"] == "finished" for record in records.values())
    assert all(record["starts"] == 1 and record["cpu_seconds"] > 0 for record in records.values())
    fingerprints = list((run_dir / "store" / "perceivers").iterdir())
    assert len(fingerprints) == 1  # fewer objects are not perceived again
    results = run_dir / "results"
    rows = list(csv.DictReader((results / "ablation.csv").read_text().splitlines()))
    titles = list(dict.fromkeys(row["variant"] for row in rows))
    assert titles == ["full", "w/o stage 2", "2 objects a key frame", "full, blind"]
    assert {row["num_seeds"] for row in rows} == {"2"}
    assert {row["corpus"] for row in rows} == {
        "all",
        "activitynet_qa",
        "causal_vid_instruct",
        "nextqa",
    }
    assert "CPU min" in (results / "ablation.md").read_text()
    assert "\\toprule" in (results / "ablation.tex").read_text()


def test_jobs_are_handed_to_slurm_with_what_they_wait_for(tmp_path, monkeypatch):
    """On made-up commands: ``sbatch`` numbers its calls, ``squeue`` knows them all."""
    log = tmp_path / "calls"
    for name, script in {
        "sbatch": f'echo "$@" >> {log}; wc -l < {log}',
        "squeue": "echo 1",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def job(program: str, *needs: Job) -> Job:
        key = job_key(program, "", needs)
        name = program.split(".")[1]
        return Job(
            title=name,
            key=key,
            folder=tmp_path / f"{name}-{key}",
            program=program,
            arguments=("run_dir=x",),
            needs=needs,
            outputs=(tmp_path / f"{name}-output",),
        )

    trained = job("experiments.fit", job("experiments.perceive"))
    evaluated = job("experiments.evaluate", trained, job("experiments.pretrain_microworld"))
    assert len(submit_jobs([evaluated], ["--partition=gpu"])) == 4
    calls = log.read_text().splitlines()
    assert [call.split("experiments/slurm/")[-1] for call in calls[:2]] == [
        "perceive.sbatch run_dir=x",
        "train.sbatch run_dir=x",
    ]
    assert "--dependency" not in calls[0]
    assert "--dependency=afterok:1" in calls[1]
    assert "--wrap=python -m experiments.pretrain_microworld run_dir=x" in calls[2]
    assert "--dependency=afterok:2:3 --partition=gpu" in calls[3]
    assert submit_jobs([evaluated]) == []  # all are in the queue
    (tmp_path / "fit-output").touch()  # and now its stage 1 is done
    assert "--dependency=afterok:3" in submission_command(evaluated, [])
