"""FSDP2, DeepSpeed and compilation on one GPU learn what a single process learns there.

Not run so far: no GPU was at hand. Run as a program, this file is one strategy's training.
"""

import functools
import importlib.util
import json
import sys
import warnings
from pathlib import Path

import pytest
from gpu_twins import ON_GPU
from tiny_training import (
    BY_GRADIENT,
    StepLosses,
    run_as_program,
    tiny_loader,
    tiny_module,
    tiny_trainer,
)

from vidreason.training.checkpoint_format import RunIdentity
from vidreason.training.checkpoint_strategies import EngineStrategy, ShardedStrategy
from vidreason.training.sharding import compile_blocks

LOSSES_FILE = "losses.json"
STRATEGIES = {
    "fsdp2": ShardedStrategy,
    "deepspeed_zero2": lambda: EngineStrategy(stage=2),
    "deepspeed_zero3": lambda: EngineStrategy(stage=3),
}
without_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="the package deepspeed is not installed"
)


def train(folder, accelerator, how, num_epochs, out, resume=None):
    """Two steps an epoch, of 8 samples in two micro-batches; save at the end; losses by step."""
    module = tiny_module(folder, **BY_GRADIENT)
    reasoner = module.reasoner
    if how == "compile":
        compile_blocks(reasoner)
    module.identity = RunIdentity({"seed": 0}, lambda: {"language_model": "aa"})
    losses = StepLosses()
    trainer = tiny_trainer(
        accelerator=accelerator,
        strategy=STRATEGIES[how]() if how in STRATEGIES else "auto",
        max_epochs=num_epochs,
        accumulate_grad_batches=2,
        use_distributed_sampler=False,  # it would shuffle
        callbacks=[losses],
    )
    weights_only = None if how.startswith("deepspeed") else True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # packages warn of other things on each kind of device
        trainer.fit(module, tiny_loader(reasoner, 4), ckpt_path=resume, weights_only=weights_only)
    trainer.save_checkpoint(out, weights_only=False)
    return losses.by_step


def train_and_go_on(folder, accelerator, how, out):
    """An epoch, and another one from its checkpoint; losses by step."""
    first = train(folder, accelerator, how, 1, out / "a.ckpt")
    return first | train(folder, accelerator, how, 2, out / "b.ckpt", out / "a.ckpt")


def train_elsewhere(folder, accelerator, how, out):
    """The same in another process, which a strategy leaves its process group to."""
    run_as_program(__file__, folder, accelerator, how, out)
    return {int(step): loss for step, loss in json.loads((out / LOSSES_FILE).read_text()).items()}


@pytest.fixture(scope="module")
def alone(tiny_language_model_folder, tmp_path_factory):
    """``alone(accelerator)`` gives the losses of two epochs without a stop or a strategy."""

    @functools.cache
    def losses(accelerator):
        out = tmp_path_factory.mktemp("alone") / "a.ckpt"
        return train(tiny_language_model_folder, accelerator, "single", 2, out)

    return losses


@pytest.mark.parametrize(
    ("accelerator", "how"),
    [
        # The same on the CPU, so that mistakes show without a GPU.
        pytest.param("cpu", "fsdp2", marks=pytest.mark.slow),
        pytest.param("gpu", "compile", marks=ON_GPU),
        pytest.param("gpu", "fsdp2", marks=ON_GPU),
        pytest.param("gpu", "deepspeed_zero2", marks=[*ON_GPU, without_deepspeed]),
        pytest.param("gpu", "deepspeed_zero3", marks=[*ON_GPU, without_deepspeed]),
    ],
)
def test_one_device_learns_and_goes_on_the_same_under_each(
    alone, tiny_language_model_folder, tmp_path, accelerator, how
):
    run = train_and_go_on if how == "compile" else train_elsewhere
    losses = run(tiny_language_model_folder, accelerator, how, tmp_path)
    expected = alone(accelerator)
    assert len(expected) == 4
    assert losses == pytest.approx(expected, abs=1e-3)


if __name__ == "__main__":
    *which, result = sys.argv[1:]
    by_step = train_and_go_on(*which, Path(result))
    Path(result, LOSSES_FILE).write_text(json.dumps(by_step))
