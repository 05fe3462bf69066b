"""The checks for a GPU at small size on the CPU: what breaks there would break on a GPU."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.gpu_check.checks import CHECKS
from experiments.gpu_check.results import read_results

CHECKOUT = Path(__file__).parents[2]
COMPILED = "compile"
"""Takes a CPU minutes; test_sharding compiles a smaller model."""


@pytest.mark.slow
@pytest.mark.timeout(1800)  # each check is a process that imports everything
def test_every_check_runs_at_small_size(tmp_path):
    chosen = [check for check in CHECKS if check.name != COMPILED]
    command = [sys.executable, "-m", "experiments.gpu_check", "--rehearse"]
    command += ["--output-dir", str(tmp_path), "--budget-seconds", "1700"]
    done = subprocess.run(
        [*command, "--only", *(check.name for check in chosen)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    results = read_results(tmp_path)
    log = (tmp_path / "log.txt").read_text()
    states = {outcome.check: outcome.state for outcome in results.outcomes}
    assert states.keys() == {check.name for check in chosen}
    assert done.returncode == 0, f"{done.stdout}\n{log}"
    # On the CPU there are no peaks and no tests that need a GPU; packages may be missing.
    skipped = {check for check, state in states.items() if state == "skipped"}
    may_skip = {check.name for check in chosen if check.packages}
    assert skipped <= may_skip | {"tests", "memory"}
    assert {state for check, state in states.items() if check not in skipped} == {"passed"}
    values = {(one.check, one.name): one.value for one in results.measurements}
    assert values["strategy fsdp2", "loss"] == pytest.approx(
        values["strategy auto", "loss"], abs=1e-2
    )
    assert 5 < values["stage 2", "loss"] < 9  # the logarithm of 1024 words is 6.9
    assert values["perception", "visual tokens"] > 2
    assert values["estimates", "stage 2"] > values["estimates", "stage 1"]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) <= 8
    assert values["steps 1", "fill"] > 0.3
    assert f"| {chosen[0].name} | passed |" in (tmp_path / "summary.md").read_text()
