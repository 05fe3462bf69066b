"""``evaluate --from``: all scores of kept predictions again, without a model, store or videos."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.evaluate.report import write_report
from experiments.experiment_config import ExperimentConfig
from experiments.kept_runs import (
    PRIORS,
    ROW_NAMES,
    VALIDATION,
    baseline_row,
    evaluation_folder_of,
    prediction_files,
    read_run,
)
from vidreason.config import merge_config
from vidreason.evaluation.comparison import Run
from vidreason.evaluation.protocols import official_free_accuracy

_NAMES: dict[str, str] = {str(stem): name for stem, name in [*ROW_NAMES.items(), *PRIORS.items()]}
"""Rows by what their files are called, in the order of the tables."""


def rescore(arguments: argparse.Namespace) -> None:
    """Print the tables of the predictions in ``paths``, and write them.

    Raises:
        ValueError: The command line names a ``run_dir``; or nothing can be scored, or twice.
    """
    _refuse_run_folder(arguments.overrides)
    config = merge_config(ExperimentConfig, arguments.config, arguments.overrides)
    runs: dict[str, Run] = {}
    validation: Run | None = None
    # Each file is a run by its name; the answers to validation questions stand apart.
    for source in arguments.paths:
        for stem, path in prediction_files(source).items():
            run = read_run(path, _NAMES.get(stem, stem), config.data)
            # How near a baseline is to the original, its manifest says, and not its file's name.
            if run.manifest is not None and run.manifest.system:
                run = replace(run, name=baseline_row(stem, run.manifest.system["fidelity"]))
            if stem == VALIDATION:
                validation = run
            elif run.name in runs:
                raise ValueError(
                    f"--from: {run.name!r} is there twice; one call scores one run, and "
                    "`evaluate compare A B` compares two"
                )
            else:
                runs[run.name] = run
    if not runs:
        raise ValueError("--from: there are only answers to validation questions")
    # In the order of the table that evaluate writes.
    ordered = dict(sorted(runs.items(), key=lambda item: _order(item[1])))
    folder = evaluation_folder_of(arguments.paths[0]) if len(arguments.paths) == 1 else None
    # No row of predictions says which model it is of, and after how many steps.
    before = _metrics_before(folder)
    write_report(
        Path(arguments.out) if arguments.out else folder,
        {name: run.predictions for name, run in ordered.items()},
        config.evaluation,
        model=str(before.get("model", "")) or ", ".join(arguments.paths),
        step=before.get("step"),
        validation=() if validation is None else validation.predictions,
        incomplete={
            corpus: read for run in ordered.values() for corpus, read in run.incomplete.items()
        },
        manifests={name: run.manifest for name, run in ordered.items() if run.manifest is not None},
    )
    for run in ordered.values():
        _print_official_free(run)


def _refuse_run_folder(overrides: Sequence[str]) -> None:
    """Refuse another ``run_dir`` than that of the answers, whose tables would be written anew.

    One in a file of the configuration is of the runs that it makes, and says nothing here.
    """
    for override in overrides:
        key, _, folder = override.partition("=")
        if key == "run_dir":
            raise ValueError(
                f"run_dir={folder}: --from writes the tables into the folder of the answers, "
                f"whatever run_dir is; write `--out {folder}/evaluation` to have them there, or "
                "leave it out"
            )


def _order(run: Run) -> tuple[int, str, int]:
    """Rank a run as ``evaluate`` does: the reasoner's controls, baselines, others, priors."""
    controls, priors = list(ROW_NAMES.values()), list(PRIORS.values())
    if run.name in controls:
        return 0, "", controls.index(run.name)
    if run.name in priors:
        return 3, "", priors.index(run.name)
    if run.manifest is None or not run.manifest.system:
        return 2, "", 0
    control: dict[str, int] = {name: index for index, name in enumerate(ROW_NAMES)}
    return 1, run.name.partition(" ")[0], control[run.manifest.control]


def _metrics_before(folder: Path | None) -> dict[str, Any]:
    """Return the ``metrics.json`` that ``evaluate`` wrote: it names the model, and its step."""
    path = None if folder is None else folder / "metrics.json"
    if path is None or not path.is_file():
        return {}
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def _print_official_free(run: Run) -> None:
    """Print what ActivityNet-QA's own script would print for "free", which is not the accuracy."""
    rows = [row for row in run.predictions if row.corpus == "activitynet_qa"]
    if not rows or any(row.correct is None for row in rows):
        return
    printed = official_free_accuracy(
        [row.question_type for row in rows], [bool(row.correct) for row in rows]
    )
    print(
        f"\n{run.name}: the official script of ActivityNet-QA prints {100 * printed:.2f} for free, "
        "because it divides by the sizes of other types"
    )
