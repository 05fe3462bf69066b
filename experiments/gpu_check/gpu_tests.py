"""The tests that need a GPU, which CI never runs."""

from pathlib import Path

import pytest

from experiments.gpu_check.results import Failed, Skipped
from experiments.gpu_check.setting import Setting

_TESTS = Path(__file__).resolve().parents[2] / "tests"
_MARKS = ("mark.gpu", "gpu_twins")
"""The mark, or the tests' module that gives it."""


class _Outcomes:
    """A plugin that counts how tests end."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failed: list[str] = []
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note each test once: as it was called, or as it failed or was skipped before that."""
        if report.when == "call" or not report.passed:
            getattr(self, report.outcome).append(report.nodeid)


def files_with_gpu_tests() -> list[Path]:
    """Test files that have the mark; to collect the others takes longer than to run these."""
    files = {path: path.read_text() for path in _TESTS.rglob("test_*.py")}
    return sorted(path for path, text in files.items() if any(mark in text for mark in _MARKS))


def run_gpu_tests(setting: Setting) -> None:
    """Run ``pytest -m gpu``.

    Raises:
        Skipped: All of them were, as in a rehearsal.
        Failed: One failed, or none was found.
    """
    outcomes = _Outcomes()
    status = pytest.main(
        [
            *map(str, files_with_gpu_tests()),
            *("-m", "gpu", "-q", "-ra", "--durations=0", "-p", "no:cacheprovider"),
            # A package that warns of something new is no failure of a GPU, and plugins may be
            # missing that the project's own options name.
            *("-W", "default", "-o", "addopts=--strict-markers"),
            *("--rootdir", str(_TESTS.parent), f"--basetemp={setting.scratch / 'pytest'}"),
        ],
        plugins=[outcomes],
    )
    record = setting.record
    record("passed", len(outcomes.passed))
    record("failed", len(outcomes.failed))
    record("skipped", len(outcomes.skipped))
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise Failed(f"pytest ended with status {int(status)}: see the log")
    if outcomes.failed:
        raise Failed(", ".join(node.rpartition("/")[2] for node in outcomes.failed))
    if not outcomes.passed:
        raise Skipped(f"none of {len(outcomes.skipped)} tests could run here")
