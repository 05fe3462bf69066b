"""Runs that are killed or told to stop, anywhere, end as if nothing had happened.

Real processes, killed by the kernel; see ``tests/forked_fit.py``.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chaos_runs import Blow, Run, assert_same_training, blows, global_samples, logged

NUM_STEPS = 16
STOPPED = 75


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of its own at ``folder``; gives what enlarges it."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")

    def enlarge(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)

    try:
        yield enlarge
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def left_out(run: Run) -> dict[int, Any]:
    """The steps that the guard has left out, as they were written down last."""
    lines = (run.run_dir / "skipped.jsonl").read_text().splitlines()
    return {line["step"]: line for line in map(json.loads, lines)}


@pytest.mark.slow
def test_a_process_is_killed_stopped_and_killed_again(whole, harmed):
    run = harmed()
    attempt = run.start()
    attempt.strike(Blow(number=signal.SIGKILL, ranks=(0,), after_batches=7))
    assert attempt.end() == [-signal.SIGKILL]
    attempt = run.start()
    attempt.strike(Blow(number=signal.SIGTERM, ranks=(0,), after_batches=3))
    assert attempt.end() == [STOPPED]
    assert run.start(die_at_operation=3, within="checkpoints").end() == [-signal.SIGKILL]
    run.finish()
    assert run.num_starts == len(run.resumed_from())
    assert_same_training(run, whole(1), 1)


@pytest.mark.slow
def test_all_ranks_stop_at_one_step_though_one_is_told(whole, harmed):
    run = harmed("trainer.validate_every_n_steps=2")
    attempt = run.start(2)
    attempt.strike(Blow(number=signal.SIGUSR1, ranks=(1,), after_batches=8))
    assert attempt.end() == [STOPPED, STOPPED]
    attempt = run.start(2)
    attempt.strike(Blow(number=signal.SIGKILL, ranks=(1,), after_batches=3))
    survivor, killed = attempt.end()
    assert survivor > 0
    assert killed == -signal.SIGKILL
    # They went on behind the very step at which they stopped: no batch was begun twice.
    batches = run.batches()
    assert [(b["epoch"], b["batch"]) for b in batches] == [
        divmod(batch, NUM_STEPS) for batch in range(len(batches))
    ]
    run.finish(2)
    assert_same_training(run, whole(2, "trainer.validate_every_n_steps=2"), 2)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(whole, harmed):
    run = harmed()
    attempt = run.start(1)
    attempt.strike(Blow(number=signal.SIGKILL, ranks=(0,), after_batches=9))
    attempt.end()
    run.finish(2)
    samples = global_samples(whole(1))
    assert len(samples) == NUM_STEPS
    assert global_samples(run) == samples


@pytest.mark.slow
def test_what_watches_a_run_goes_on_as_if_it_had_not_been_killed(whole, harmed):
    """An average, a part that warms up, and steps that are left out for their loss."""
    overrides = (
        *("weight_average.kind=ema", "weight_average.decay=0.8"),
        # The loss falls, so that it has no new highest value at the second validation.
        "freeze_schedule=[{part: lora, when_metric: val/loss, mode: max, patience: 1, "
        "warmup_steps: 6}]",
        "trainer.validate_every_n_steps=2",
        *("guard.spike_deviations=0.5", "guard.window=2", "guard.max_skipped=16"),
    )
    run, expected = harmed(*overrides), whole(1, *overrides)
    attempt = run.start()
    attempt.strike(Blow(number=signal.SIGKILL, ranks=(0,), after_batches=19))
    assert attempt.end() == [-signal.SIGKILL]
    run.finish()
    assert_same_training(run, expected, 1)
    assert logged(run, "train/learning_rate_lora") == logged(expected, "train/learning_rate_lora")
    skipped = [left_out(r) for r in (run, expected)]
    assert skipped[0] == skipped[1] != {}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes_leaves_the_workers_to_the_run(whole, harmed, number):
    run = harmed("data.num_workers=2")
    attempt = run.start()
    blow = Blow(number=number, ranks=(0,), after_batches=5, also_their_children=True)
    attempt.strike(blow)
    assert attempt.end() == [STOPPED], run.log()
    num_batches = len(run.batches())
    run.finish()
    assert 2 * run.resumed_from()[1] == num_batches
    assert_same_training(run, whole(1), 1)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_full_disk(whole, harmed, world_size):
    run = harmed()
    run.run_dir.mkdir()
    # For two checkpoints of 240 kB, not for a third.
    with small_disk(run.run_dir, "700k") as enlarge:
        statuses = run.start(world_size).end()
        assert all(status > 0 for status in statuses)
        assert "No space left" in run.log()
        enlarge("50m")
        run.finish(world_size)
        assert run.resumed_from() == [0, 4]
        assert_same_training(run, whole(world_size), world_size)


@pytest.mark.slow
def test_a_file_that_may_not_grow(whole, harmed):
    run = harmed()
    assert run.start(max_file_bytes=100_000).end()[0] > 0
    assert "File too large" in run.log()
    run.finish()
    assert run.resumed_from() == [0, 0]
    assert_same_training(run, whole(1), 1)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_the_losses_are_those_of_another_number_of_processes(whole, harmed, first, then):
    # Dropout draws other numbers for other shapes.
    overrides = ("reasoner.lora.dropout=0.0",)
    run = harmed(*overrides)
    attempt = run.start(first)
    attempt.strike(Blow(number=signal.SIGKILL, ranks=tuple(range(first)), after_batches=9))
    attempt.end()
    run.finish(then)
    expected = whole(1, *overrides)
    assert global_samples(run) == global_samples(expected)
    losses = logged(expected, "train/loss")
    assert logged(run, "train/loss") == pytest.approx(losses, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("operation", range(1, 13))
def test_killed_in_a_save(whole, harmed, operation):
    """Before each operation on files of the first two saves, and of the first behind a resume."""
    run = harmed()
    for _ in range(2):
        attempt = run.start(die_at_operation=operation, within="checkpoints")
        assert attempt.end() == [-signal.SIGKILL]
    run.finish()
    assert_same_training(run, whole(1), 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("world_size", [1, 2])
def test_blows_at_random_points(whole, harmed, world_size, seed):
    run = harmed()
    for _, blow in zip(range(5), blows(100 * world_size + seed, world_size), strict=False):
        attempt = run.start(world_size)
        attempt.strike(blow)
        statuses = attempt.end()
        if not any(statuses):
            break  # it ended before the blow
        if blow.number != signal.SIGKILL:
            assert statuses == [STOPPED] * world_size, run.log()
    run.finish(world_size)
    assert_same_training(run, whole(world_size), world_size)
