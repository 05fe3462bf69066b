"""A run whose fusion core starts from a Q-Former: once, at its beginning, and on record."""

import json

import pytest
import torch
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from experiments.experiment_config import ExperimentConfig
from experiments.fit.run import WARM_START_FILE, fit
from vidreason.config import merge_config
from vidreason.training.checkpoint_files import write_file

WIDTH = 16  # the tiny experiment's


@pytest.fixture(scope="module")
def qformer(tmp_path_factory):
    sizes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "encoder_hidden_size": WIDTH}
    config = Blip2QFormerConfig(
        **sizes, vocab_size=9, num_hidden_layers=2, num_attention_heads=2, initializer_range=0.3
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        state = Blip2QFormerModel(config).state_dict()
    path = tmp_path_factory.mktemp("qformer") / "qformer.pth"
    torch.save({f"qformer.{name}": value for name, value in state.items()}, path)
    return path, state["encoder.layer.0.intermediate_query.dense.weight"]


def test_a_run_starts_warm_once(tiny_experiment, qformer, tmp_path, caplog):
    path, first_layer = qformer

    def run(*overrides):
        folders = [f"run_dir={tmp_path / 'run'}", f"reasoner.fusion.warm_start={path}"]
        slow = ["optimizer.learning_rate=1e-30", "optimizer.weight_decay=0"]
        config = merge_config(
            ExperimentConfig, [str(tiny_experiment)], [*folders, *slow, *overrides]
        )
        fit(config)

    def newest(run_dir="run"):
        checkpoint = torch.load(tmp_path / run_dir / "checkpoints/last.ckpt", weights_only=True)
        return checkpoint["state_dict"]["reasoner.fusion.blocks.0.mlp.0.weight"]

    run("trainer.stop_after_steps=2")
    report = json.loads((tmp_path / "run" / WARM_START_FILE).read_text())
    key = "qformer.encoder.layer.0.intermediate_query.dense.weight"
    assert report["used"]["blocks.0.mlp.0.weight"] == key
    torch.testing.assert_close(newest(), first_layer)

    # What a killed run has learnt is not overwritten when it continues; the file may be gone.
    (tmp_path / "run" / WARM_START_FILE).unlink()
    weights = path.read_bytes()
    path.unlink()
    run("trainer.stop_after_steps=4")
    assert not (tmp_path / "run" / WARM_START_FILE).exists()
    with pytest.raises(ValueError, match="there is no file"):
        run(f"run_dir={tmp_path / 'new'}")
    path.write_bytes(weights)

    # Stage 2 takes over what stage 1 has learnt, not the Q-Former again.
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    changed = torch.load(checkpoint, weights_only=True)
    only_fusion = {n: v + 1 for n, v in changed["state_dict"].items() if ".fusion." in n}
    write_file(changed | {"state_dict": only_fusion}, tmp_path / "stage1.ckpt")
    run(
        *(f"run_dir={tmp_path / 'stage2'}", f"initial_checkpoint={tmp_path / 'stage1.ckpt'}"),
        "trainer.stop_after_steps=2",
    )
    torch.testing.assert_close(newest("stage2"), first_layer + 1)
    assert not (tmp_path / "stage2" / WARM_START_FILE).exists()
