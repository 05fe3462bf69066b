"""Whether a run fits is said before the models are loaded."""

import pytest

from experiments.config.memory_estimate import MemoryEstimate, longest_batch, max_visual_tokens
from experiments.experiment_config import ExperimentConfig
from experiments.fit import memory_check
from experiments.fit.memory_check import check_memory, estimate_of, rehearses
from experiments.fit.metrics_log import read_metrics
from experiments.fit.run import fit
from vidreason.config import merge_config


def tiny_config(tiny_experiment, *overrides):
    return merge_config(ExperimentConfig, [str(tiny_experiment)], list(overrides))


@pytest.fixture(params=["a rule", pytest.param("the rehearsal", marks=pytest.mark.slow)])
def estimated(request, monkeypatch):
    """Estimates of the memory: of the program, which takes its time, or by a rule."""
    if request.param == "a rule":

        def by_batch(config):
            return MemoryEstimate(weights=1000, working=100 * config.data.batch_size)

        monkeypatch.setattr(memory_check, "estimate_of", by_batch)
    return memory_check.estimate_of


def test_a_run_that_does_not_fit_is_refused_with_a_batch_size_that_does(tiny_experiment, estimated):
    short = "data.max_text_tokens=32"
    config = tiny_config(tiny_experiment, "data.batch_size=2", short)
    smaller = estimated(tiny_config(tiny_experiment, "data.batch_size=1", short)).total
    with pytest.raises(
        ValueError,
        match=r"fit is estimated to take .*data\.batch_size=1 \(now 2\).*gradient_checkpointing",
    ):
        check_memory(config, smaller)
    check_memory(config, 2 * smaller)


@pytest.mark.slow
def test_what_a_strategy_shards_is_divided_by_the_processes(tiny_experiment):
    two = ["trainer.devices=2", "data.batch_size=1", "data.max_text_tokens=32"]
    one, ddp, zero2, fsdp2 = (
        estimate_of(tiny_config(tiny_experiment, *two, *strategy))
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


def test_models_that_are_not_at_hand_are_not_estimated(tiny_experiment):
    absent = "reasoner.language_model.name_or_path=meta-llama/Llama-3.2-1B-Instruct"
    check_memory(tiny_config(tiny_experiment, absent), 1000)


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

    monkeypatch.setattr("experiments.fit.memory_check.longest_batch", watched)
    losses = []
    for asked in ("true", "false"):
        overrides = [
            f"run_dir={tmp_path / asked}",
            f"trainer.rehearse_largest_batch={asked}",
            *("trainer.stop_after_steps=2", "trainer.save_reasoner=false", "data.validation=[]"),
        ]
        config = tiny_config(tiny_experiment, *overrides)
        fit(config)
        losses.append([row["train/loss"] for row in read_metrics(config.run_dir).values()])
    assert losses[0] == losses[1]
    assert shapes == [([512, 512], max_visual_tokens(config.perceiver))] * 2
