"""The overlays of ``experiments/configs/debug``, on the tiny experiment."""

import json
import os
from pathlib import Path

import pytest
import torch

from experiments.experiment_config import ExperimentConfig
from experiments.fit.metrics_log import read_metrics
from experiments.fit.run import fit
from vidreason.config import merge_config, save_config
from vidreason.training.checkpoint import newest_checkpoint

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
OVERLAYS = sorted(path.stem for path in (CONFIGS / "debug").glob("*.yaml"))


def debug_config(experiment, overlay, run_dir, *overrides):
    files = [str(experiment), str(CONFIGS / "debug" / f"{overlay}.yaml")]
    return merge_config(ExperimentConfig, files, [f"run_dir={run_dir}", *overrides])


def consumed(run_dir):
    lines = (Path(run_dir) / "samples-rank0.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def usual_kernels():
    """Lightning sets these for the process; here other tests follow."""
    yield
    torch.use_deterministic_algorithms(False)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("stage", ["stage1_alignment.yaml", "stage2_instruction.yaml"])
def test_each_overlay_fits_the_papers_presets(stage, overlay, tmp_path):
    config = merge_config(
        ExperimentConfig, [str(CONFIGS / stage), str(CONFIGS / "debug" / f"{overlay}.yaml")]
    )
    save_config(config, tmp_path / "config.yaml")
    assert merge_config(ExperimentConfig, [str(tmp_path / "config.yaml")]) == config
    plain = merge_config(ExperimentConfig, [str(CONFIGS / stage)])
    if overlay == "deterministic":
        assert config.trainer.deterministic
    else:
        assert config.run_dir == f"{plain.run_dir}/debug/{overlay}"


def test_the_name_of_a_debugging_run_is_one_of_a_folder():
    with pytest.raises(ValueError, match=r"debug is '\.\./x'; it names a folder"):
        ExperimentConfig(debug="../x")


def test_a_debugging_run_does_everything_and_is_never_taken_for_the_run(tiny_experiment, tmp_path):
    run_dir = tmp_path / "run"
    config = debug_config(tiny_experiment, "fast_dev_run", run_dir, "data.benchmark=[]")
    for _ in range(2):  # anew each time
        fit(config)
        debug_run = run_dir / "debug" / "fast_dev_run"
        metrics = read_metrics(str(debug_run))
        assert list(metrics) == [0, 1]
        assert all({"train/loss", "val/loss"} <= values.keys() for values in metrics.values())
        assert len(consumed(debug_run)) == 2 * 8
        assert newest_checkpoint(debug_run / "checkpoints") is not None
        assert (debug_run / "reasoner").is_dir()
        assert len(json.loads((debug_run / "run.json").read_text())["starts"]) == 1
    assert [path.name for path in run_dir.iterdir()] == ["debug"]
    assert newest_checkpoint(run_dir / "checkpoints") is None


def test_a_folder_that_no_run_has_made_is_not_emptied(tiny_experiment, tmp_path):
    kept = tmp_path / "debug" / "limit" / "results.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    with pytest.raises(ValueError, match=r"was not made by one .*remove it, or choose another"):
        fit(debug_config(tiny_experiment, "limit", tmp_path))
    assert kept.read_text() == "mine"


@pytest.mark.slow
def test_the_same_batch_is_learnt_by_heart(tiny_experiment, tmp_path):
    overrides = ["data.num_epochs=12", "reasoner.lora.dropout=0", "data.batch_size=4"]
    config = debug_config(tiny_experiment, "overfit_batches", tmp_path, *overrides)
    config.trainer.record_samples = True
    fit(config)
    epochs = {}
    for batch in consumed(config.run_dir):
        epochs.setdefault(batch["epoch"], []).append(batch["ids"])
    assert list(epochs) == list(range(12))
    assert sum(map(len, epochs[0])) == 8
    assert all(batches == epochs[0] for batches in epochs.values())
    losses = [metrics["train/loss"] for metrics in read_metrics(config.run_dir).values()]
    assert losses[-1] < 0.8 * losses[0]


def test_the_limit_holds_for_every_corpus(tiny_experiment, tmp_path):
    config = debug_config(tiny_experiment, "limit", tmp_path, "data.limit=3")
    assert [corpus.limit for corpus in config.data.train] == [3]
    assert [corpus.limit for corpus in config.data.validation] == [3]  # 4 in the experiment
    with pytest.raises(ValueError, match=r"data\.limit is 0"):
        debug_config(tiny_experiment, "limit", tmp_path, "data.limit=0")


@pytest.mark.slow
def test_two_deterministic_runs_are_bit_equal(tiny_experiment, tmp_path, usual_kernels):
    states, losses = [], []
    for name in ("one", "two"):
        overrides = ["trainer.stop_after_steps=2", "trainer.save_reasoner=false"]
        config = debug_config(tiny_experiment, "deterministic", tmp_path / name, *overrides)
        fit(config)
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        path = newest_checkpoint(tmp_path / name / "checkpoints")
        states.append(torch.load(path, weights_only=True)["state_dict"])
        losses.append([row["train/loss"] for row in read_metrics(config.run_dir).values()])
    assert losses[0] == losses[1]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
