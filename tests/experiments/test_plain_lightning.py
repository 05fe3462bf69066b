"""The habits of Lightning's users: a plain Trainer, ``load_from_checkpoint``, ``fabric run``."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tiny_training import EXPECTED_WARNINGS

from vidreason.training.stage import StageModule

CHECKOUT = Path(__file__).parents[2]


@EXPECTED_WARNINGS
@pytest.mark.filterwarnings("ignore:.isinstance.treespec", "ignore:.*recommended to use .self.log")
def test_the_example_of_a_plain_trainer(tiny_experiment, tmp_path, monkeypatch, capsys):
    corpus = yaml.safe_load(tiny_experiment.read_text())["data"]["validation"][0]
    overrides = [f"data.benchmark=[{corpus!r}]", f"run_dir={tmp_path}", "data.num_epochs=1"]
    script = CHECKOUT / "examples" / "plain_trainer.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(tiny_experiment), *overrides])
    names = runpy.run_path(str(script), run_name="__main__")
    assert names["trainer"].callback_metrics["test/loss"].isfinite()
    assert "test/loss" in capsys.readouterr().out
    # The checkpoint alone says how the reasoner was built, and that its parts are the same.
    trained, again = names["module"], StageModule.load_from_checkpoint(names["path"])
    assert again.reasoner is not trained.reasoner
    assert again.trainable == trained.trainable
    for name in trained.trainable:
        values = trained.reasoner.get_parameter(name), again.reasoner.get_parameter(name)
        assert torch.equal(*values), name
    assert (again.total_steps, again.optimizer_config) == (8, trained.optimizer_config)


@pytest.mark.slow
def test_fit_under_fabric_run(tiny_experiment, tmp_path):
    """``lightning run`` of earlier versions: two ranks of ``fit``, started by Fabric's command."""
    command = [sys.executable, "-m", "lightning.fabric.cli", "--accelerator=cpu"]
    command += ["--devices=2", str(CHECKOUT / "experiments" / "fit" / "__main__.py")]
    command += [f"--config={tiny_experiment}", f"run_dir={tmp_path}", "trainer.devices=2"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()
    assert "in micro-batches of 2" in done.stdout + done.stderr
