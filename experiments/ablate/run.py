"""An ablation study: its jobs, run, submitted or printed, and its tables."""

from collections.abc import Sequence
from pathlib import Path

from experiments.ablate.config import StudyConfig
from experiments.ablate.results import write_results
from experiments.ablate.study import Run, expand, study_demo
from experiments.demo.parts import run_parts
from experiments.demo.run import world_part
from experiments.job_submission import print_commands, submit_jobs
from experiments.jobs import Job, pending_jobs, run_jobs, unique_jobs


def ablate(config: StudyConfig) -> int:
    """Run, submit or print what is not done yet; write the tables of what is.

    Returns: 1 if a job failed, else 0.
    """
    runs = expand(config)
    jobs = ordered_jobs(runs)
    # The world is written here; everything else is a job.
    if config.microworld is not None:
        run_parts([world_part(study_demo(config))], Path(config.run_dir))
    failed: list[Job] = []
    if config.submit == "print":
        print_commands(jobs)
    elif config.submit == "sbatch":
        submit_jobs(jobs, config.sbatch_options)
        print(f"{len(pending_jobs(jobs))} jobs are not finished; the same command goes on")
    else:
        failed = run_jobs(jobs, max_parallel=config.max_parallel, threads=config.threads)
    for path in write_results(config, runs):
        print(path)
    return int(bool(failed))


def ordered_jobs(runs: Sequence[Run]) -> list[Job]:
    """Return all jobs: those that many need, then run by run: the first seed ends first."""
    # Variants share jobs that are equal: each comes once.
    jobs = unique_jobs([run.evaluation for run in runs])
    return sorted(jobs, key=lambda job: job.program in ("experiments.fit", "experiments.evaluate"))
