"""Strategies that spread a run over processes, by ``trainer.strategy``."""

import importlib.util

from lightning.pytorch.strategies import Strategy

from experiments.experiment_config import ExperimentConfig
from vidreason.training.checkpoint_strategies import EngineStrategy, ShardedStrategy

SHARD_WEIGHTS = ("fsdp2", "deepspeed_zero3")
"""Strategies whose processes hold a part each of the weights."""
SHARD_STATES = (*SHARD_WEIGHTS, "deepspeed_zero2")
"""Strategies whose processes hold a part each of gradients and optimizer."""


def build_strategy(config: ExperimentConfig) -> str | Strategy:
    """Return the strategy for Lightning's Trainer.

    Raises:
        ValueError: The strategy does not go with something else that is configured, or needs a
            package that is not installed.
    """
    name = config.trainer.strategy
    _check_precision(config)
    if name in SHARD_STATES:
        _check(config)
    if name == "fsdp2":
        return ShardedStrategy(save_distributed_checkpoint=config.trainer.sharded_checkpoints)
    if name.startswith("deepspeed"):
        return EngineStrategy(stage=int(name[-1]))  # deepspeed_zero2, deepspeed_zero3
    return name


def _check_precision(config: ExperimentConfig) -> None:
    if config.trainer.precision == "bf16-true":
        raise ValueError(
            "trainer.precision is bf16-true, in which what trains would be bfloat16 and lose all "
            "steps below 1/256 of a value (norm weights do not move): set "
            "trainer.precision=bf16-mixed; the frozen weights, which are most, are bfloat16 by "
            "reasoner.language_model.dtype"
        )
    model = config.reasoner.language_model
    thawed = any(thaw.part == "language_model" for thaw in config.freeze_schedule)
    if thawed and (model.dtype != "float32" or model.quantization != "none"):
        raise ValueError(
            f"freeze_schedule trains the language model's own weights, which are held in "
            f"{model.dtype if model.quantization == 'none' else model.quantization} and would lose "
            "small steps: set reasoner.language_model.dtype=float32 and quantization=none"
        )


def _check(config: ExperimentConfig) -> None:
    name = config.trainer.strategy
    precision, quantization = config.trainer.precision, config.reasoner.language_model.quantization
    # A rank of a strategy that cuts weights has no whole model to answer with.
    whole_model_needed = name in SHARD_WEIGHTS
    conflicts = [
        (precision == "16-mixed", "trainer.precision=16-mixed: use bf16-mixed"),
        (
            quantization != "none",
            f"reasoner.language_model.quantization={quantization}: weights of 4 bits cannot be "
            "cut; set it to none",
        ),
        (
            whole_model_needed and config.sample_generations.every_n_steps > 0,
            "sample_generations: rank 0, which answers, has no whole model; set every_n_steps=0",
        ),
        (
            whole_model_needed and config.evaluation.every_n_steps is not None,
            "evaluation.every_n_steps: the ranks' answers differ in length, and a rank that is "
            "done would leave the others waiting; leave it out and run experiments.evaluate "
            "afterwards",
        ),
    ]
    problems = [text for applies, text in conflicts if applies]
    if problems:
        raise ValueError(f"trainer.strategy={name} does not go with {'; nor with '.join(problems)}")
    if name.startswith("deepspeed") and importlib.util.find_spec("deepspeed") is None:
        raise ValueError(
            f"trainer.strategy={name} needs the package deepspeed: pip install "
            "'vidreason[deepspeed]'"
        )
