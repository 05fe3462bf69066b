"""The scripts for SLURM, on made-up commands of SLURM; what they start is a few lines of shell."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from forked_fit import CHECKOUT

SCRIPTS = CHECKOUT / "experiments" / "slurm"
JOBS = sorted(SCRIPTS.glob("*.sbatch"))

# Says how it was called, then does what the test wants: ends with STATUS, or waits for a signal and
# ends with WHEN_TOLD.
PROGRAM = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >> "$LOG"
echo "port $MASTER_PORT on $MASTER_ADDR offline $HF_HUB_OFFLINE" >> "$LOG"
[ "$STATUS" = wait ] || exit "$STATUS"
trap 'exit "$WHEN_TOLD"' USR1 TERM
echo ready >> "$LOG"
while :; do sleep 0.05; done
"""
COMMANDS = {
    "python": PROGRAM,
    "srun": PROGRAM,
    "squeue": '#!/usr/bin/env bash\necho "$STATE"\n',
    # SLURM ends the script of a job that it puts back into the queue.
    "scontrol": """#!/usr/bin/env bash
case "$1" in
  show) printf 'node7\\nnode8\\n' ;;
  requeue) echo "requeue $2" >> "$LOG"; kill -KILL "$PPID" ;;
esac
""",
}


def start(tmp_path: Path, job: str, **variables: str) -> "subprocess.Popen[str]":
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in COMMANDS.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    (commands / "activate").write_text("")
    environment = {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "LOG": str(tmp_path / "log"),
        "VENV": str(tmp_path),
        "SLURM_SUBMIT_DIR": str(CHECKOUT),
        "SLURM_JOB_ID": "41234",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_ARRAY_TASK_ID": "3",
        "STATE": "RUNNING",
        "STATUS": "0",
        "WHEN_TOLD": "75",
        **variables,
    }
    command = ["bash", str(SCRIPTS / job), "--config", "a.yaml", "run_dir=runs/seed%a"]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE)


def log(tmp_path: Path) -> list[str]:
    path = tmp_path / "log"
    return path.read_text().splitlines() if path.exists() else []


def test_train_tells_the_ranks_where_to_meet_and_what_to_do(tmp_path):
    process = start(tmp_path, "train.sbatch")
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert log(tmp_path) == [
        "srun --kill-on-bad-exit=0 --wait=60 python -m experiments.fit --config a.yaml "
        "run_dir=runs/seed3 trainer.num_nodes=2 trainer.devices=4",
        f"port {12000 + 41234 % 20000} on node7 offline 1",
    ]


@pytest.mark.parametrize("status", ["75", "138", "143", "1"])
@pytest.mark.parametrize("job", [path.name for path in JOBS])
def test_a_job_whose_time_is_up_is_requeued(tmp_path, job, status):
    process = start(tmp_path, job, STATUS="wait", WHEN_TOLD=status)
    deadline = time.monotonic() + 30
    while "ready" not in log(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)  # as --signal=B:USR1 does
    output, _ = process.communicate(timeout=30)
    failed = status == "1"
    assert ("requeue 41234" in log(tmp_path)) == (not failed)
    assert ("status 75: back into the queue" in output) == (not failed)


@pytest.mark.parametrize(
    ("status", "state", "requeued"),
    [
        ("75", "RUNNING", True),
        *[(status, "RUNNING", False) for status in ("0", "1", "2", "137", "138", "143")],
        ("75", "CANCELLED", False),
    ],
)
def test_only_what_would_go_on_is_requeued(tmp_path, status, state, requeued):
    process = start(tmp_path, "train.sbatch", STATUS=status, STATE=state)
    process.communicate(timeout=30)
    assert ("requeue 41234" in log(tmp_path)) == requeued
    assert process.returncode == (-signal.SIGKILL if requeued else int(status))


def test_shellcheck_finds_nothing():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = [str(path) for path in (*JOBS, SCRIPTS / "job.sh")]
    subprocess.run(["shellcheck", "-x", "-P", str(SCRIPTS), *scripts], check=True)
