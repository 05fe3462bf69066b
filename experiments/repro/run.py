"""Steps of a recorded run, done again and compared bit by bit."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callbacks.run_record import CONFIG_FILE, read_starts, read_weight_hashes
from experiments.experiment_config import ExperimentConfig
from experiments.fit.metrics_log import read_metrics
from vidreason.config import merge_config
from vidreason.training.checkpoint_files import read_weights_and_record

_LOSS = "train/loss"
RECORDED_BY = {
    "samples": "trainer.record_samples",
    "losses": "trainer.log_every_n_steps",
    "weights": "trainer.checkpoint_every_n_steps",
}
"""The key by which a run records what is compared."""
_CIRCUMSTANCES = (
    *("git", "host", "platform", "python", "devices", "threads", "world_size", "num_nodes"),
    *("strategy", "precision"),
)
"""Entries of a start that may make a difference to what it computes; besides its versions."""

Values = Mapping[Any, object]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Recorded values of some steps, and those of the same steps done again."""

    name: str
    recorded: Values
    again: Values

    @property
    def common(self) -> list[Any]:
        """Keys with a value on both sides."""
        return sorted(self.recorded.keys() & self.again.keys())

    def first_difference(self) -> str | None:
        """Describe the first difference; None if there is none."""
        for key in self.common:
            if repr(self.recorded[key]) != repr(self.again[key]):  # also of what is no number
                return (
                    f"{self.name} differ first at {_words(key)}: recorded "
                    f"{self.recorded[key]}, now {self.again[key]}"
                )
        return None


def repro(run_dir: Path, num_steps: int, checkpoint: str = "") -> int:
    """Do steps of a run again, as far as it has come; say what is equal, or differs first.

    Args:
        run_dir: The run's folder.
        num_steps: Optimizer steps; those that the run has not done are left out.
        checkpoint: Of the run, after which to begin; empty for its first step.

    Returns:
        0 if all that was compared is equal, 1 otherwise.

    Raises:
        ValueError: The folder holds no run, or nothing that can be compared, or it was one of
            several nodes; or the steps cannot be done again.
    """
    starts = read_starts(run_dir)
    first = _step_of(checkpoint) if checkpoint else 0
    steps = range(first, min(first + num_steps, _steps_done(run_dir, starts)))
    _check_recorded(run_dir, steps)
    # Run the steps again in a temporary folder, then compare what both recorded.
    with tempfile.TemporaryDirectory(prefix="repro-") as folder:
        again = Path(folder)
        print(f"{run_dir}: steps {steps.start} to {steps.stop - 1} are done again", flush=True)
        _run_again(run_dir, again, starts[-1], checkpoint, steps.stop)
        comparisons = compare(run_dir, again, steps)
        for comparison in comparisons:
            number = len(comparison.common)
            hint = "" if number else f" ({RECORDED_BY[comparison.name]} says what is recorded)"
            print(f"{comparison.name}: {number} compared{hint}")
        differences = [difference for c in comparisons if (difference := c.first_difference())]
        if not differences:
            print("all bits are equal")
            return 0
        print(*differences, sep="\n")
        print(*_hints(starts, read_starts(again)[0], again / CONFIG_FILE), sep="\n")
    return 1


def _steps_done(run_dir: Path, starts: Sequence[Mapping[str, Any]]) -> int:
    """Return how many steps a run has done, as far as it has recorded any."""
    ends = [int(start["end"]["step"]) for start in starts if "end" in start]
    logged = [step + 1 for step in read_metrics(str(run_dir))]  # metrics count steps from 0
    return max([0, *ends, *logged, *read_weight_hashes(run_dir)])


def _check_recorded(run_dir: Path, steps: range) -> None:
    """Make sure that there is something to compare before the steps are done again.

    Weights are compared after the last of the steps, and where the configuration saves.

    Raises:
        ValueError: Nothing was recorded of these steps.
    """
    if not steps:
        raise ValueError(
            f"{str(run_dir)!r} recorded no step after step {steps.start}: there is nothing to "
            "do again"
        )
    trainer = merge_config(ExperimentConfig, [str(run_dir / CONFIG_FILE)]).trainer
    every, losses = trainer.checkpoint_every_n_steps, _losses(run_dir, range(sys.maxsize))
    saves = [step for step in read_weight_hashes(run_dir) if step > steps.start]
    if (
        _samples(run_dir, steps)
        or any(step in steps for step in losses)
        # Done again, the weights are recorded at the same checkpoints, and at the last step.
        or any(step == steps.stop or (step < steps.stop and step % every == 0) for step in saves)
    ):
        return
    later = [step + 1 for step in losses if step >= steps.start] + saves
    remedy = f"give --steps {min(later) - steps.start}" if later else "there is nothing to compare"
    raise ValueError(
        f"{str(run_dir)!r} recorded nothing of the steps {steps.start} to {steps.stop - 1} "
        f"(trainer.log_every_n_steps is {trainer.log_every_n_steps}, checkpoint_every_n_steps "
        f"{every}): {remedy}"
    )


def compare(run_dir: Path, again: Path, steps: range) -> list[Comparison]:
    """Samples by rank and micro-batch, losses by step, and weights by step, of ``steps``."""
    saved = range(steps.start + 1, steps.stop + 1)  # weights are named by the steps done before
    reads: dict[str, Callable[[Path], Values]] = {
        "samples": lambda folder: _samples(folder, steps),
        "losses": lambda folder: _losses(folder, steps),
        "weights": lambda folder: {
            step: value for step, value in read_weight_hashes(folder).items() if step in saved
        },
    }
    return [
        Comparison(name=name, recorded=read(run_dir), again=read(again))
        for name, read in reads.items()
    ]


def _samples(run_dir: Path, steps: range) -> dict[tuple[int, str, int, int], object]:
    """Ids by step, rank, epoch and micro-batch; of a step that was done again, the last ones."""
    samples: dict[tuple[int, str, int, int], object] = {}
    for path in sorted(run_dir.glob("samples-rank*.jsonl")):
        complete = path.read_text().rpartition("\n")[0]  # a kill may have torn the last line
        for line in map(json.loads, complete.splitlines()):
            if line["step"] in steps:
                key = line["step"], path.stem.removeprefix("samples-"), line["epoch"]
                samples[*key, line["batch"]] = line["ids"]
    return samples


def _losses(run_dir: Path, steps: range) -> dict[int, float]:
    rows = read_metrics(str(run_dir))
    return {step: rows[step][_LOSS] for step in rows if step in steps and _LOSS in rows[step]}


def _run_again(
    run_dir: Path, again: Path, start: Mapping[str, Any], checkpoint: str, stop: int
) -> None:
    """``experiments.fit`` in a process of its own, which may start others."""
    if start.get("num_nodes", 1) != 1:
        raise ValueError(
            f"{str(run_dir)!r} ran on {start['num_nodes']} nodes: repro starts the processes of "
            "one; do its steps again with experiments.fit, and stop_after_steps"
        )
    recorded = str(run_dir / CONFIG_FILE)
    thaws = merge_config(ExperimentConfig, [recorded]).freeze_schedule
    overrides = [
        f"run_dir={again}",
        "debug=''",  # it would name a folder below run_dir
        f"resume={Path(checkpoint).resolve() if checkpoint else 'never'}",
        f"trainer.devices={start['world_size']}",
        f"trainer.stop_after_steps={stop}",
        "trainer.log_every_n_steps=1",
        "trainer.record_samples=true",
        *("trainer.keep_checkpoints=1", "trainer.keep_best=0", "trainer.profile_steps=0"),
        # What only looks at the run, and changes nothing of it.
        *(
            "trainer.loggers=[]",
            "trainer.save_reasoner=false",
            "trainer.early_stopping_patience=null",
        ),
        *("evaluation.every_n_steps=null", "sample_generations.every_n_steps=0"),
        # A part that thaws by a metric needs the validations.
        *([] if any(thaw.when_metric for thaw in thaws) else ["data.validation=[]"]),
    ]
    merge_config(ExperimentConfig, [recorded], overrides)  # says here what is wrong with it
    command = [sys.executable, "-m", "experiments.fit", "--config", recorded, *overrides]
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if finished.returncode != 0:
        print(finished.stdout, file=sys.stderr)
        raise ValueError(
            f"the steps of {str(run_dir)!r} could not be done again: experiments.fit ended with "
            f"status {finished.returncode}; see above"
        )


def _step_of(checkpoint: str) -> int:
    if not Path(checkpoint).exists():
        raise ValueError(f"--checkpoint: there is no checkpoint {checkpoint!r}")
    return int(read_weights_and_record(Path(checkpoint))["global_step"])


def _hints(starts: Sequence[Mapping[str, Any]], now: Mapping[str, Any], config: Path) -> list[str]:
    """List what differed when the run was made, and may be the reason."""
    hints = []
    for number, then in enumerate(starts):
        changes = {name: (then.get(name), now.get(name)) for name in _CIRCUMSTANCES}
        for name, version in now["versions"].items():
            changes[f"version of {name}"] = then["versions"].get(name), version
        hints += [
            f"may be why: {name} was {old} in start {number + 1}, and is {new}"
            for name, (old, new) in changes.items()
            if old != new
        ]
    # Uncommitted changes have no name that could be compared.
    dirty = [start["git"] for start in (*starts, now) if str(start["git"]).endswith("-dirty")]
    if dirty:
        hints.append("may be why: the code had changes that were not committed")
    if not merge_config(ExperimentConfig, [str(config)]).trainer.deterministic:
        hints.append(
            "may be why: trainer.deterministic is false; kernels of a GPU may then round otherwise "
            "each time"
        )
    return hints


def _words(key: object) -> str:
    if isinstance(key, tuple):
        step, rank, epoch, batch = key
        return f"step {step} ({rank}, micro-batch {batch} of epoch {epoch})"
    return f"step {key}"
