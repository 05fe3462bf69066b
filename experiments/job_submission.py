"""Hand jobs to SLURM, or print their commands, instead of running them here."""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from experiments.jobs import Job, is_finished, pending_jobs, read_record, write_record

SCRIPTS = {
    "experiments.perceive": "perceive.sbatch",
    "experiments.fit": "train.sbatch",
    "experiments.evaluate": "evaluate.sbatch",
}
"""In ``experiments/slurm``, by program. Any other program is one command of one task."""
_FOLDER = Path(__file__).parent / "slurm"


def print_commands(jobs: Sequence[Job]) -> None:
    """Print the command of each job that is not finished, each after those that it needs."""
    for job in pending_jobs(jobs):
        job.write_config()
        print(shlex.join(["python", *job.command[1:]]))


def submit_jobs(jobs: Sequence[Job], options: Sequence[str] = ()) -> list[Job]:
    """Hand what is neither finished nor in the queue to ``sbatch``.

    Each job waits for those that it needs to end well (``--dependency=afterok``).

    Args:
        jobs: What they need is submitted as well.
        options: Further options of ``sbatch``, which win over those in the scripts.

    Returns:
        The jobs that were submitted.

    Raises:
        ValueError: ``sbatch`` refused a job; the message holds what it said.
    """
    submitted = []
    for job in pending_jobs(jobs):
        # One that is in the queue already is not submitted twice.
        record = read_record(job)
        if record.submitted_as and _is_queued(record.submitted_as):
            continue
        job.write_config()
        record.command = submission_command(job, options)
        answer = subprocess.run(record.command, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise ValueError(f"sbatch refused {job.title!r}: {answer.stderr.strip()}")
        # --parsable prints the number and, behind a semicolon, the cluster where there are several.
        record.submitted_as = answer.stdout.strip().split(";")[0]
        record.state, record.starts = "submitted", record.starts + 1
        write_record(job, record)
        submitted.append(job)
        print(f"submitted as {record.submitted_as}: {job.title}", flush=True)
    return submitted


def submission_command(job: Job, options: Sequence[str]) -> list[str]:
    """The call of ``sbatch`` for a job whose needs have been submitted or are finished."""
    # Finished needs are not in the queue any more: no dependency on them.
    numbers = [read_record(need).submitted_as for need in job.needs if not is_finished(need)]
    waits = [f"--dependency=afterok:{':'.join(numbers)}"] if numbers else []
    command = ["sbatch", "--parsable", f"--job-name={job.folder.name}", *waits, *options]
    script = SCRIPTS.get(job.program)
    if script is None:
        return [*command, "--ntasks=1", f"--wrap={shlex.join(['python', *job.command[1:]])}"]
    return [*command, str(_FOLDER / script), *job.program_arguments]


def _is_queued(number: str) -> bool:
    command = ["squeue", "--noheader", "--format=%i", f"--jobs={number}"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    # Asked for a number that it has forgotten, squeue ends with an error.
    return finished.returncode == 0 and bool(finished.stdout.strip())
