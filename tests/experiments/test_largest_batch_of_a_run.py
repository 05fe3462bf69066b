"""The largest batch is tried before step 1, and changes nothing that is learnt."""

import pytest

from experiments.config.memory_estimate import estimate_fit
from experiments.experiment_config import ExperimentConfig
from experiments.fit.largest_batch import longest_batch, max_visual_tokens, rehearses, remedy
from experiments.fit.metrics_log import read_metrics
from experiments.fit.run import fit
from experiments.start_checks.start import meta_reasoner
from vidreason.config import merge_config


def tiny_config(tiny_experiment, *overrides):
    return merge_config(ExperimentConfig, [str(tiny_experiment)], list(overrides))


def test_the_remedy_names_a_batch_size_that_suits_the_global_batch(tiny_experiment):
    sizes = ["data.batch_size=4", "data.global_batch_size=12"]
    said = remedy(tiny_config(tiny_experiment, *sizes))
    assert said.startswith("data.batch_size=3 (now 4); reasoner.language_model.gradient_check")
    assert "lower data.max_text_tokens, now 512" in said


@pytest.mark.slow
def test_what_a_strategy_shards_is_divided_by_the_processes(tiny_experiment):
    def estimate(config):
        return estimate_fit(config, meta_reasoner(config, config.reasoner))

    two = ["trainer.devices=2", "data.batch_size=1", "data.max_text_tokens=32"]
    one, ddp, zero2, fsdp2 = (
        estimate(tiny_config(tiny_experiment, *two, *strategy))
        for strategy in (
            ["trainer.devices=1"],
            *([f"trainer.strategy={name}"] for name in ("ddp", "deepspeed_zero2", "fsdp2")),
        )
    )
    assert (ddp.weights, ddp.optimizer, ddp.gradients) == (
        *(one.weights, one.optimizer),
        2 * one.gradients,  # and DDP's copies
    )
    for sharded in (zero2, fsdp2):
        assert sharded.optimizer == one.optimizer // 2
        assert sharded.gradients == one.gradients // 2
    assert (zero2.weights, zero2.working) == (one.weights, one.working)
    assert fsdp2.weights == one.weights // 2
    assert fsdp2.working > one.working


def test_it_is_done_on_gpus_unless_told_otherwise(tiny_experiment, monkeypatch):
    assert not rehearses(tiny_config(tiny_experiment))
    assert rehearses(tiny_config(tiny_experiment, "trainer.rehearse_largest_batch=true"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    on_gpu = ["trainer.accelerator=gpu"]
    assert rehearses(tiny_config(tiny_experiment, *on_gpu))
    on_gpu.append("trainer.rehearse_largest_batch=false")
    assert not rehearses(tiny_config(tiny_experiment, *on_gpu))


@pytest.mark.slow
def test_fit_tries_the_longest_batch_and_learns_the_same(tiny_experiment, tmp_path, monkeypatch):
    shapes = []

    def watched(config, reasoner, batch_size):
        visual, text = longest_batch(config, reasoner, batch_size)
        shapes.append(((text["lengths"] + 1).tolist(), visual["mask"].shape[1]))
        return visual, text

    monkeypatch.setattr("experiments.fit.largest_batch.longest_batch", watched)
    losses = []
    for rehearse in ("true", "false"):
        overrides = [
            f"run_dir={tmp_path / rehearse}",
            f"trainer.rehearse_largest_batch={rehearse}",
            *("trainer.stop_after_steps=2", "trainer.save_reasoner=false", "data.validation=[]"),
        ]
        config = tiny_config(tiny_experiment, *overrides)
        fit(config)
        losses.append([row["train/loss"] for row in read_metrics(config.run_dir).values()])
    assert losses[0] == losses[1]
    assert shapes == [([512, 512], max_visual_tokens(config.perceiver))] * 2
