"""A sweep from its command line to its results."""

import json
import subprocess
import sys

import pytest
from tiny_experiment import write_nextqa


@pytest.mark.slow  # trains two models
def test_a_whole_sweep_trains_chooses_and_tests(tiny_experiment, tmp_path):
    write_nextqa(tmp_path / "nextqa", ("val", "test"))
    # Their videos have the bytes of the trained ones, whose tokens are in the store.
    benchmark = [
        {"reader": "nextqa", "root": str(tmp_path / "nextqa"), "split": split}
        for split in ("val", "test")
    ]
    overlay = tmp_path / "benchmark.yaml"
    overlay.write_text(json.dumps({"data": {"benchmark": benchmark}}))
    command = [
        *(sys.executable, "-m", "experiments.sweep", f"run_dir={tmp_path / 'sweep'}"),
        *(f"configs=[{tiny_experiment},{overlay}]", "overrides=[trainer.stop_after_steps=2]"),
        "choices={optimizer.learning_rate: [0.01, 0.02]}",
    ]
    # A program of its own: its jobs cannot be forked off a process that has trained.
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "started" not in done.stdout  # the second time
    text = (tmp_path / "sweep" / "results" / "sweep.md").read_text()
    assert "2 trials by accuracy, validation: nextqa, 95% intervals over 6 videos" in text
    assert "Held-out test, nextqa: accuracy in %" in text
    assert "(n=30)" in text
    # The corpus has the same videos in both splits, and the results say so.
    assert "6 of the 6 test videos were also chosen on" in text
    folders = [folder.name.partition("-")[0] for folder in (tmp_path / "sweep/jobs").iterdir()]
    assert sorted(folders) == ["evaluate", "evaluate", "fit", "fit", "test"]
