"""From the finished runs of a study to its files of results."""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path

from callbacks.run_record import RECORD_FILE, read_starts
from experiments.ablate.config import FULL, StudyConfig
from experiments.ablate.numbers import Row, compare
from experiments.ablate.study import Run, study_variants
from experiments.ablate.table import group_tables, main_table, to_csv
from experiments.jobs import Job, is_finished, read_record
from experiments.kept_runs import predictions_file
from vidreason.atomic_file import write_atomically
from vidreason.evaluation.predictions.row_files import read_predictions

RESULTS_FOLDER = "results"


def write_results(config: StudyConfig, runs: Sequence[Run]) -> list[Path]:
    """Write the tables of what is finished into ``<run_dir>/results``.

    Returns:
        The files; none while the full system is not finished under any seed.
    """
    rows = study_rows(config, runs)
    if not rows:
        return []
    result = compare(rows)
    main, groups = main_table(result), group_tables(result)
    folder = Path(config.run_dir) / RESULTS_FOLDER
    texts = {
        "ablation.md": "\n\n".join(table.to_markdown() for table in (main, *groups)) + "\n",
        "ablation.tex": "\n".join(table.to_latex() for table in (main, *groups)),
        "ablation.csv": to_csv(result),
        "runs.json": json.dumps([_run_entry(run) for run in runs], indent=1) + "\n",
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    print(main.to_text(), flush=True)
    return [folder / name for name in texts]


def study_rows(config: StudyConfig, runs: Sequence[Run]) -> list[Row]:
    """One row a variant with a finished run, and one for each control of the full system.

    A variant that has no seed in common with the full system is left out.
    """
    finished = [run for run in runs if is_finished(run.evaluation)]
    full_seeds = {run.seed for run in finished if run.variant == FULL}
    rows = []
    for name, variant in study_variants(config).items():
        of_variant = [run for run in finished if run.variant == name]
        if not full_seeds & {run.seed for run in of_variant}:
            continue
        # Said in the row, as its interval is of fewer seeds than the others'.
        missing = len(config.seeds) - len(of_variant)
        note = f" ({len(of_variant)} of {len(config.seeds)} seeds)" if missing else ""
        # All seeds of a variant have the same controls.
        for control in of_variant[0].controls:
            seen = "" if control == "none" else f", {control}"
            rows.append(
                Row(
                    title=f"{variant.title or name}{seen}{note}",
                    seeds={
                        run.seed: read_predictions(predictions_file(run.evaluation.config, control))
                        for run in of_variant
                    },
                    cost="-" if seen else _cost(of_variant),
                    is_control=bool(seen),
                )
            )
    controls = [row for row in rows if row.is_control]
    return [row for row in rows if not row.is_control] + controls


def gpu_seconds(job: Job) -> float:
    """Seconds of GPUs of a training job, by its run record; 0 on CPUs."""
    folder = Path(job.config.run_dir)
    if job.config.trainer.accelerator == "cpu" or not (folder / RECORD_FILE).is_file():
        return 0.0
    total = 0.0
    for start in read_starts(folder):
        # Nobody knows how long a start was that was killed: it has no end.
        if start["devices"] and "end" in start:
            begun, ended = (
                datetime.datetime.fromisoformat(moment)
                for moment in (start["time"], start["end"]["time"])
            )
            total += (ended - begun).total_seconds() * start["world_size"]  # GPU seconds
    return total


def _cost(runs: Sequence[Run]) -> str:
    """Cost of training one seed, with what is shared with other variants."""
    # GPU hours where there were GPUs, else minutes of CPUs.
    jobs = [job for run in runs for job in run.training]
    on_gpus = sum(map(gpu_seconds, jobs)) / len(runs)
    if on_gpus:
        return f"{on_gpus / 3600:.2f} GPU h"
    return f"{sum(read_record(job).cpu_seconds for job in jobs) / len(runs) / 60:.1f} CPU min"


def _run_entry(run: Run) -> dict[str, object]:
    """Folders of the run of a variant and a seed."""
    return {
        "variant": run.variant,
        "seed": run.seed,
        "training": [str(job.folder) for job in run.training],
        "evaluation": str(run.evaluation.folder),
        "finished": is_finished(run.evaluation),
    }
