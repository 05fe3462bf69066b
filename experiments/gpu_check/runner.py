"""Checks one after the other, each in a process of its own with a time limit, within a budget.

A check that fails, hangs, crashes or cannot run here costs the others nothing.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from experiments.gpu_check.results import (
    LOG_FILE,
    RESULTS_FILE,
    Outcome,
    append,
    read_results,
    write_summary,
)

LEAST_SECONDS = 5.0
"""A check is not begun with less than this left of the budget."""
_GRACE_SECONDS = 3.0
"""From SIGTERM, at which a check says where it stands, to SIGKILL."""
_CHECKOUT = Path(__file__).resolve().parents[2]
_MAX_NOTE = 200


@dataclass(frozen=True, kw_only=True)
class Step:
    """A check as the runner sees it."""

    name: str
    command: tuple[str, ...]
    """Started in the checkout. Exit status 0 is success."""
    limit_seconds: float
    missing: str = ""
    """Why it cannot run here; empty if it can."""
    background: bool = False
    """Runs beside those after it, and writes a log of its own."""
    waits_for: str = ""
    """Name of a background step that has to end before."""

    @property
    def log(self) -> str:
        """Name of the file that its output goes to."""
        return f"log-{self.name.replace(' ', '-')}.txt" if self.background else LOG_FILE


@dataclass(kw_only=True)
class Run:
    """A run of ``steps``: call :func:`run_steps`.

    Attributes:
        folder: Results and logs are written here.
        budget_seconds: Wall time of all steps. A step that it ends in is stopped, and those after
            it are skipped.
        heading: First line of ``summary.md``.
        say: Called with a line as a step begins and ends.
    """

    folder: Path
    budget_seconds: float
    heading: str
    say: Callable[[str], None] = print
    outcomes: list[Outcome] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    background: dict[str, "_Process"] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self.budget_seconds - (time.monotonic() - self.started)

    def take(self, step: Step) -> None:
        """Run one step, or begin it if it runs in the background."""
        # Those that have ended meanwhile are noted; one that this step needs is waited for.
        for name, process in list(self.background.items()):
            if name == step.waits_for or process.popen.poll() is not None:
                self.end(self.background.pop(name))
        note = step.missing
        if not note and self.left < LEAST_SECONDS:
            note = f"the {self.budget_seconds:.0f} seconds are spent"
        if note:
            self.note(Outcome(check=step.name, state="skipped", note=note))
            return
        self.say(f"{step.name} ...")
        process = _Process(step, self.folder, self.environment)
        if step.background:
            self.background[step.name] = process
        else:
            self.end(process)

    def end(self, process: "_Process") -> None:
        """Wait for a process, and note how it ended."""
        self.note(process.outcome(self.left))

    def note(self, outcome: Outcome) -> None:
        """Write how a step ended, at once."""
        append(self.folder / RESULTS_FILE, outcome=asdict(outcome))
        write_summary(self.folder, self.heading)
        self.outcomes.append(outcome)
        note = f": {outcome.note}" if outcome.note else ""
        self.say(f"{outcome.check}: {outcome.state}, {outcome.seconds:.0f} s{note}")


def run_steps(steps: Sequence[Step], run: Run) -> list[Outcome]:
    """Run ``steps`` in their order; after each, ``results.jsonl`` and ``summary.md`` are complete.

    Args:
        steps: The cheapest and most informative first: the budget may end before the last.
        run: Where to, and for how long.

    Returns:
        How they ended, in that order.
    """
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        # What is killed cannot tidy up after itself.
        run.environment["TMPDIR"] = scratch
        try:
            for step in steps:
                run.take(step)
            for name in list(run.background):
                run.end(run.background.pop(name))
        finally:
            for process in run.background.values():
                process.stop()
    return run.outcomes


class _Process:
    """A step that is running, with all that it starts."""

    def __init__(self, step: Step, folder: Path, environment: Mapping[str, str]) -> None:
        self.step = step
        self.folder = folder
        self.started = time.monotonic()
        # Checks in the foreground share a log: what this one says begins after its heading, which
        # has to be written before the process writes.
        with (folder / step.log).open("a") as log:
            log.write(f"\n==== {step.name}: {' '.join(step.command)}\n")
            log.flush()
            self.begin = log.tell()
            self.popen = subprocess.Popen(
                step.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=_CHECKOUT,
                env=environment,
                start_new_session=True,  # so that what it starts can be stopped with it
            )

    def outcome(self, left: float) -> Outcome:
        """Wait until it ends, or stop it at its limit or after ``left`` seconds."""
        name, limit = self.step.name, self.step.limit_seconds
        # One in the background has run for a while before anybody waits for it.
        own_left = limit - (time.monotonic() - self.started)
        status = self._wait(max(min(own_left, left), 0.0))
        seconds = time.monotonic() - self.started
        if status is None:
            note = f"stopped at its limit of {limit:.0f} s"
            if left < own_left:
                note = f"stopped after {seconds:.0f} s, when the budget was spent"
            return Outcome(check=name, state="timed out", seconds=seconds, note=note)
        if status != 0:
            how = f"status {status}" if status > 0 else f"ended by {signal.Signals(-status).name}"
            note = f"{how}: {self._last_line()}"
            return Outcome(check=name, state="failed", seconds=seconds, note=note)
        # A check that cannot run here ends with status 0, and has written why.
        if reason := read_results(self.folder).skipped.get(name):
            return Outcome(check=name, state="skipped", seconds=seconds, note=reason)
        return Outcome(check=name, state="passed", seconds=seconds)

    def _wait(self, seconds: float) -> int | None:
        """The exit status; None if it had to be stopped. Nothing of it runs on."""
        try:
            return self.popen.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            # Only the check itself, which says where it stands; what it started is killed below.
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout=_GRACE_SECONDS)
            return None
        finally:
            # After a regular end as well: what it has started may go on.
            self.stop()

    def stop(self) -> None:
        """Kill it and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            # The first process of a session gives its group its number.
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def _last_line(self) -> str:
        with (self.folder / self.step.log).open("rb") as file:
            file.seek(self.begin)
            text = file.read().decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:_MAX_NOTE] if lines else "it said nothing"
