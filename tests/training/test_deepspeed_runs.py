"""DeepSpeed's ZeRO-2 and ZeRO-3 learn what one process learns; needs the package deepspeed.

Real processes with gloo on the CPU, which Lightning's strategy refuses and DeepSpeed does not. Run
as a program, this file is one of their ranks.
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
from lightning.pytorch.strategies import ParallelStrategy
from tiny_training import tiny_loader, tiny_optimizer, tiny_trainer, tiny_training_reasoner

from callbacks.lora_merge import LoraMerge
from vidreason.model import VideoReasoner
from vidreason.perception.perceiver import PerceiverConfig
from vidreason.training.checkpoint import gather_parameters
from vidreason.training.checkpoint_format import RunIdentity
from vidreason.training.checkpoint_strategies import EngineStrategy
from vidreason.training.instruction import InstructionModule

TESTS = Path(__file__).parents[1]
STEPS_PER_EPOCH = 2


class Losses(Callback):
    def __init__(self):
        self.by_step = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if "train/loss" in trainer.callback_metrics:  # there is none before the first step's end
            self.by_step[trainer.global_step] = float(trainer.callback_metrics["train/loss"])


class EngineOnCpu(EngineStrategy):
    @property
    def root_device(self):
        return torch.device("cpu", self.local_rank)  # DeepSpeed asks for its number

    def setup_environment(self):
        ParallelStrategy.setup_environment(self)
        self.set_world_ranks()
        self._process_group_backend = "gloo"
        self._init_deepspeed_distributed()


def train(folder, stage, num_processes, num_epochs, out, resume):
    """Train on global batches of 8 samples, in two micro-batches; save at the end."""
    reasoner = tiny_training_reasoner(folder, lora=True)
    reasoner.perceiver = PerceiverConfig()
    # With so large an epsilon a step is in proportion to the gradient: AdamW itself would hide one
    # that is twice too large. Clipping acts: gradients are about as long.
    settings = {"learning_rate": 1.0, "epsilon": 1.0, "weight_decay": 0.0}
    optimizer = tiny_optimizer(**settings, gradient_clip_norm=0.2)
    module = InstructionModule(reasoner, optimizer, total_steps=8)
    module.identity = RunIdentity({"seed": 0}, lambda: {"language_model": "aa"})
    losses = Losses()
    options = {"zero_force_ds_cpu_optimizer": False} if stage else {}
    strategy = EngineOnCpu(stage=stage) if stage else "auto"
    if stage:
        strategy.config |= options
    trainer = tiny_trainer(
        devices=num_processes,
        strategy=strategy,
        max_epochs=num_epochs,
        accumulate_grad_batches=2,
        use_distributed_sampler=False,
        callbacks=[losses, LoraMerge(out / "reasoner")],
    )
    rank = int(os.environ.get("LOCAL_RANK", "0"))  # set by Lightning for the ranks it starts
    loader = tiny_loader(reasoner, 4 // num_processes, 16, rank, num_processes)
    trainer.fit(module, loader, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(out / "a.ckpt", weights_only=False)
    values = dict(gather_parameters(reasoner, module.trainable))
    if trainer.is_global_zero:
        (out / "losses.json").write_text(json.dumps(losses.by_step))
        torch.save(values, out / "weights.pt")


@pytest.fixture(scope="module")
def run(tiny_language_model_folder, tmp_path_factory):
    """``run(stage, num_processes, num_epochs, resume)`` gives losses by step, weights, folder."""

    def start(stage, num_processes, num_epochs, resume=""):
        out = tmp_path_factory.mktemp(f"zero{stage}-{num_processes}")
        path = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
        own = {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
        arguments = [stage, num_processes, num_epochs, out, resume]
        done = subprocess.run(
            [sys.executable, __file__, tiny_language_model_folder, *map(str, arguments)],
            env={**os.environ, **own},
            timeout=290,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        losses = json.loads((out / "losses.json").read_text())
        return losses, torch.load(out / "weights.pt", weights_only=True), out

    return start


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="the package deepspeed is not installed"
)
@pytest.mark.parametrize("stage", [2, 3])
def test_zero_learns_and_goes_on_as_one_process(run, stage):
    losses, weights, alone = run(0, 1, 2)
    first, _, out = run(stage, 2, 1)
    second, found, folder = run(stage, 2, 2, out / "a.ckpt")
    assert folder.joinpath("a.ckpt", "latest").is_file()
    assert list(first) + list(second) == list(losses)
    assert [*first.values(), *second.values()] == pytest.approx(list(losses.values()), abs=1e-5)
    assert found.keys() == weights.keys()
    for name, value in weights.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=0, msg=name)
    # LoraMerge has compared its logits with those of the run.
    merged = VideoReasoner.from_pretrained(folder / "reasoner").state_dict()
    for name, value in VideoReasoner.from_pretrained(alone / "reasoner").state_dict().items():
        torch.testing.assert_close(merged[name], value, atol=1e-5, rtol=0, msg=name)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    model, zero, processes, epochs, result, start_from = sys.argv[1:]
    train(model, int(zero), int(processes), int(epochs), Path(result), start_from or None)
