"""Names of strategies, and what does not go with them."""

import importlib.util

import pytest

from experiments.experiment_config import STRATEGIES, ExperimentConfig
from experiments.fit.strategies import build_strategy
from vidreason.config import merge_config
from vidreason.training.checkpoint_strategies import ShardedStrategy


def configured(strategy: str, *overrides: str) -> ExperimentConfig:
    return merge_config(ExperimentConfig, [], [f"trainer.strategy={strategy}", *overrides])


@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_find_unused_parameters_true"])
def test_strategies_of_whole_models_are_lightnings(strategy):
    assert build_strategy(configured(strategy, "trainer.precision=16-mixed")) == strategy


@pytest.mark.parametrize(
    ("overrides", "remedy"),
    [
        (["trainer.precision=bf16-true"], "lose all steps .* set trainer.precision=bf16-mixed"),
        (
            ["freeze_schedule=[{part: language_model}]"],
            "held in bfloat16 .* set reasoner.language_model.dtype=float32",
        ),
        (
            [
                "freeze_schedule=[{part: language_model}]",
                "reasoner.language_model.quantization=nf4",
            ],
            "held in nf4 .* quantization=none",
        ),
    ],
)
def test_training_numbers_that_lose_small_steps_is_refused(overrides, remedy):
    with pytest.raises(ValueError, match=remedy):
        build_strategy(configured("auto", *overrides))


@pytest.mark.parametrize("folder", [False, True])
def test_fsdp2_saves_a_file_or_a_folder(folder):
    strategy = build_strategy(configured("fsdp2", f"trainer.sharded_checkpoints={folder}"))
    assert isinstance(strategy, ShardedStrategy)
    assert strategy._save_distributed_checkpoint == folder


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.strategy=fsdp"], "silently hold a part of it: set trainer.strategy=fsdp2"),
        (["trainer.strategy=fsdp3"], f"did you mean fsdp2.* one of {', '.join(STRATEGIES)}"),
        (
            ["trainer.strategy=ddp", "trainer.sharded_checkpoints=true"],
            "is for trainer.strategy=fsdp2, found ddp",
        ),
    ],
)
def test_what_is_no_strategy_is_refused_with_what_is_one(overrides, message):
    with pytest.raises(ValueError, match=message):
        merge_config(ExperimentConfig, [], overrides)


@pytest.mark.parametrize(
    ("strategy", "override", "message"),
    [
        ("fsdp2", "trainer.precision=16-mixed", "does not go with .*: use bf16-mixed"),
        ("fsdp2", "reasoner.language_model.quantization=nf4", "set it to none"),
        ("fsdp2", "sample_generations.every_n_steps=5", "set every_n_steps=0"),
        ("deepspeed_zero3", "evaluation.every_n_steps=0", "run experiments.evaluate afterwards"),
    ],
)
def test_what_does_not_go_with_shards_is_refused_with_the_remedy(strategy, override, message):
    with pytest.raises(ValueError, match=f"trainer.strategy={strategy} .*{message}"):
        build_strategy(configured(strategy, override))


def test_all_that_does_not_go_together_is_named_at_once():
    config = configured("fsdp2", "trainer.precision=16-mixed", "sample_generations.every_n_steps=5")
    with pytest.raises(ValueError, match=r"precision.*; nor with sample_generations"):
        build_strategy(config)


@pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is not None, reason="the package deepspeed is installed"
)
def test_a_missing_package_is_named():
    with pytest.raises(ValueError, match=r"pip install 'vidreason\[deepspeed\]'"):
        build_strategy(configured("deepspeed_zero2"))
