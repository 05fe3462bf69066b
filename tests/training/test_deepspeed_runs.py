"""DeepSpeed's ZeRO-2 and ZeRO-3 learn what one process learns; needs the package deepspeed.

Real processes with gloo on the CPU, which Lightning's strategy refuses and DeepSpeed does not. Run
as a program, this file is one of their ranks.
"""

import importlib.util
import json
import sys
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import ParallelStrategy
from tiny_training import (
    BY_GRADIENT,
    StepLosses,
    run_as_program,
    this_rank,
    tiny_loader,
    tiny_module,
    tiny_trainer,
)

from callbacks.lora_merge import LoraMerge
from vidreason.model import VideoReasoner
from vidreason.perception.perceiver import PerceiverConfig
from vidreason.training.checkpoint import gather_parameters
from vidreason.training.checkpoint_format import RunIdentity
from vidreason.training.checkpoint_strategies import EngineStrategy


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
    module = tiny_module(folder, **BY_GRADIENT, gradient_clip_norm=0.2)  # gradients are as long
    reasoner = module.reasoner
    reasoner.perceiver = PerceiverConfig()
    module.identity = RunIdentity({"seed": 0}, lambda: {"language_model": "aa"})
    losses = StepLosses()
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
    loader = tiny_loader(reasoner, 4 // num_processes, 16, this_rank(), num_processes)
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
        arguments = (tiny_language_model_folder, stage, num_processes, num_epochs, out, resume)
        run_as_program(__file__, *arguments, DS_ACCELERATOR="cpu")
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
    second, values, folder = run(stage, 2, 2, out / "a.ckpt")
    assert folder.joinpath("a.ckpt", "latest").is_file()
    assert list(first) + list(second) == list(losses)
    assert [*first.values(), *second.values()] == pytest.approx(list(losses.values()), abs=1e-5)
    assert values.keys() == weights.keys()
    for name, value in weights.items():
        torch.testing.assert_close(values[name], value, atol=1e-5, rtol=0, msg=name)
    # LoraMerge has compared its logits with those of the run.
    merged = VideoReasoner.from_pretrained(folder / "reasoner").state_dict()
    for name, value in VideoReasoner.from_pretrained(alone / "reasoner").state_dict().items():
        torch.testing.assert_close(merged[name], value, atol=1e-5, rtol=0, msg=name)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    model, zero, processes, epochs, result, start_from = sys.argv[1:]
    train(model, int(zero), int(processes), int(epochs), Path(result), start_from or None)
