"""FSDP2, DeepSpeed and compilation on one GPU learn what a single process learns there.

Not run so far: no GPU was at hand. Run as a program, this file is one strategy's training.
"""

import functools
import importlib.util
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from tiny_training import tiny_loader, tiny_optimizer, tiny_trainer, tiny_training_reasoner

from vidreason.training.checkpoint_format import RunIdentity
from vidreason.training.checkpoint_strategies import EngineStrategy, ShardedStrategy
from vidreason.training.instruction import InstructionModule
from vidreason.training.sharding import compile_blocks

TESTS = Path(__file__).parents[1]
LOSSES_FILE = "losses.json"
STRATEGIES = {
    "fsdp2": ShardedStrategy,
    "deepspeed_zero2": lambda: EngineStrategy(stage=2),
    "deepspeed_zero3": lambda: EngineStrategy(stage=3),
}
without_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="the package deepspeed is not installed"
)


class Losses(Callback):
    def __init__(self):
        self.by_step = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if "train/loss" in trainer.callback_metrics:  # there is none before the first step's end
            self.by_step[trainer.global_step] = float(trainer.callback_metrics["train/loss"])


def train(folder, accelerator, how, num_epochs, out, resume=None):
    """Two steps an epoch, of 8 samples in two micro-batches; save at the end; losses by step."""
    reasoner = tiny_training_reasoner(folder, lora=True)
    if how == "compile":
        compile_blocks(reasoner)
    # With so large an epsilon a step is in proportion to the gradient.
    optimizer = tiny_optimizer(learning_rate=1.0, epsilon=1.0, weight_decay=0.0)
    module = InstructionModule(reasoner, optimizer, total_steps=8)
    module.identity = RunIdentity({"seed": 0}, lambda: {"language_model": "aa"})
    losses = Losses()
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
    path = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, __file__, folder, accelerator, how, str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        timeout=280,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {int(step): loss for step, loss in json.loads((out / LOSSES_FILE).read_text()).items()}


@pytest.fixture(scope="module")
def alone(tiny_language_model_folder, tmp_path_factory):
    """``alone(accelerator)`` gives the losses of two epochs without a stop or a strategy."""

    @functools.cache
    def losses(accelerator):
        out = tmp_path_factory.mktemp("alone") / "a.ckpt"
        return train(tiny_language_model_folder, accelerator, "single", 2, out)

    return losses


on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.mark.parametrize(
    ("accelerator", "how"),
    [
        # The same on the CPU, so that what is wrong here is found without a GPU.
        pytest.param("cpu", "fsdp2", marks=pytest.mark.slow),
        pytest.param("gpu", "compile", marks=on_gpu),
        pytest.param("gpu", "fsdp2", marks=on_gpu),
        pytest.param("gpu", "deepspeed_zero2", marks=[*on_gpu, without_deepspeed]),
        pytest.param("gpu", "deepspeed_zero3", marks=[*on_gpu, without_deepspeed]),
    ],
)
def test_one_device_learns_and_goes_on_the_same_under_each(
    alone, tiny_language_model_folder, tmp_path, accelerator, how
):
    run = train_and_go_on if how == "compile" else train_elsewhere
    found = run(tiny_language_model_folder, accelerator, how, tmp_path)
    expected = alone(accelerator)
    assert len(expected) == 4
    assert found == pytest.approx(expected, abs=1e-3)


if __name__ == "__main__":
    *which, result = sys.argv[1:]
    by_step = train_and_go_on(*which, Path(result))
    Path(result, LOSSES_FILE).write_text(json.dumps(by_step))
