"""FSDP2, DeepSpeed and compilation on one GPU learn what a single process learns there.

Not run so far: no GPU was at hand. Run as a program, this file is one training.
"""

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


def train(folder, how, num_epochs, out, resume):
    """Two steps an epoch, of 8 samples in two micro-batches; save at the end."""
    reasoner = tiny_training_reasoner(folder, lora=True)
    if how == "compile":
        compile_blocks(reasoner)
    # With so large an epsilon a step is in proportion to the gradient.
    optimizer = tiny_optimizer(learning_rate=1.0, epsilon=1.0, weight_decay=0.0)
    module = InstructionModule(reasoner, optimizer, total_steps=8)
    module.identity = RunIdentity({"seed": 0}, lambda: {"language_model": "aa"})
    losses = Losses()
    trainer = tiny_trainer(
        accelerator="gpu",
        strategy=STRATEGIES[how]() if how in STRATEGIES else "auto",
        max_epochs=num_epochs,
        accumulate_grad_batches=2,
        use_distributed_sampler=False,  # it would shuffle
        callbacks=[losses],
    )
    weights_only = None if how.startswith("deepspeed") else True
    trainer.fit(module, tiny_loader(reasoner, 4), ckpt_path=resume, weights_only=weights_only)
    trainer.save_checkpoint(out / "a.ckpt", weights_only=False)
    (out / "losses.json").write_text(json.dumps(losses.by_step))


@pytest.fixture(scope="module")
def run(tiny_language_model_folder, tmp_path_factory):
    """``run(how, num_epochs, resume)`` gives the losses by step and the folder."""

    def start(how, num_epochs, resume=""):
        out = tmp_path_factory.mktemp(how)
        path = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [
                *(sys.executable, __file__, tiny_language_model_folder),
                *(how, str(num_epochs), str(out), str(resume)),
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            timeout=280,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads((out / "losses.json").read_text()), out

    return start


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize(
    "how",
    [
        "compile",
        "fsdp2",
        pytest.param("deepspeed_zero2", marks=without_deepspeed),
        pytest.param("deepspeed_zero3", marks=without_deepspeed),
    ],
)
def test_one_gpu_learns_and_goes_on_the_same_under_each(run, how):
    expected, _ = run("single", 2)
    first, folder = run(how, 1)
    second, _ = run(how, 2, folder / "a.ckpt")
    found = first | second
    assert found.keys() == expected.keys()
    for step, loss in expected.items():
        assert found[step] == pytest.approx(loss, abs=1e-3), step


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    model, strategy_name, epochs, result, start_from = sys.argv[1:]
    train(model, strategy_name, int(epochs), Path(result), start_from or None)
