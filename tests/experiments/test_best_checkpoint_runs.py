"""A run goes on from a checkpoint that was made at a validation, for being good, as from any."""

import pytest
import torch

from experiments.experiment_config import ExperimentConfig
from experiments.fit.run import fit
from vidreason.config import merge_config
from vidreason.training.checkpoint_files import read_checkpoint


@pytest.mark.parametrize(
    "every",
    [
        pytest.param(3, id="amid an epoch"),
        pytest.param(None, id="at its end", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_a_run_goes_on_from_its_best_checkpoint(tiny_experiment, tmp_path, every):
    validation = [] if every is None else [f"trainer.validate_every_n_steps={every}"]
    common = [
        *("trainer.checkpoint_every_n_steps=100", "trainer.keep_best=9"),
        *("trainer.stop_after_steps=10", *validation),
    ]
    whole, again = tmp_path / "whole", tmp_path / "again"
    fit(merge_config(ExperimentConfig, [str(tiny_experiment)], [*common, f"run_dir={whole}"]))
    checkpoints = whole / "checkpoints"
    assert (checkpoints / "best.ckpt").exists()
    first = checkpoints / f"step-{every or 8:08d}.ckpt"
    assert first.exists()
    resumed = [*common, f"run_dir={again}", f"resume={first}"]
    fit(merge_config(ExperimentConfig, [str(tiny_experiment)], resumed))
    expected = read_checkpoint(checkpoints / "step-00000010.ckpt")
    continued = read_checkpoint(again / "checkpoints" / "step-00000010.ckpt")
    for name, value in expected["state_dict"].items():
        assert torch.equal(continued["state_dict"][name], value), name
    positions = [content["InstructionDataModule"] for content in (continued, expected)]
    assert positions[0]["samples_consumed"] == positions[1]["samples_consumed"]
