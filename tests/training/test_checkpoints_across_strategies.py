"""A checkpoint of any strategy continues under any other, at any number of processes.

Real processes with gloo on the CPU. Run as a program, this file is one of their ranks.
"""

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

from callbacks.lora_merge import LoraMerge
from callbacks.step_checkpoint import AtomicCheckpointIO
from vidreason.model import VideoReasoner
from vidreason.perception.perceiver import PerceiverConfig
from vidreason.training.checkpoint_files import read_checkpoint
from vidreason.training.checkpoint_format import RunIdentity
from vidreason.training.checkpoint_strategies import ShardedStrategy
from vidreason.training.instruction import InstructionModule

TESTS = Path(__file__).parents[1]
STEPS_PER_EPOCH = 2
FIND_UNUSED = "ddp_find_unused_parameters_true"


class Losses(Callback):
    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(trainer.callback_metrics["train/loss"]))


def train(folder, how, num_processes, num_epochs, out, resume):
    """Train on global batches of 6 samples; save, and merge, at the end."""
    plain = {"single": "auto", "ddp": "ddp", FIND_UNUSED: FIND_UNUSED}
    strategy = plain.get(how) or ShardedStrategy(save_distributed_checkpoint=how == "folder")
    reasoner = tiny_training_reasoner(folder, lora=True)
    reasoner.perceiver = PerceiverConfig()
    # With so large an epsilon a step is in proportion to the gradient: AdamW itself would make
    # whole steps of gradients that are nothing but rounding.
    optimizer = tiny_optimizer(learning_rate=1.0, epsilon=1.0, weight_decay=0.0)
    module = InstructionModule(reasoner, optimizer, total_steps=8)
    module.identity = RunIdentity({"seed": 0}, lambda: {"language_model": "aa"})
    losses = Losses()
    trainer = tiny_trainer(
        devices=num_processes,
        strategy=strategy,
        max_epochs=num_epochs,
        use_distributed_sampler=False,
        plugins=[AtomicCheckpointIO()],
        callbacks=[losses, LoraMerge(out / "reasoner")],
    )
    rank = int(os.environ.get("LOCAL_RANK", "0"))  # set by Lightning for the ranks it starts
    loader = tiny_loader(reasoner, 6 // num_processes, 12, rank, num_processes)
    trainer.fit(module, loader, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(out / "a.ckpt", weights_only=False)
    if trainer.is_global_zero:
        (out / "losses.json").write_text(json.dumps(losses.losses))


@pytest.fixture(scope="module")
def run(tiny_language_model_folder, tmp_path_factory):
    """``run(how, num_processes, num_epochs, resume)`` gives the folder of its results."""

    def start(how, num_processes, num_epochs, resume=""):
        out = tmp_path_factory.mktemp(f"{how}-{num_processes}")
        command = [sys.executable, __file__, tiny_language_model_folder, how]
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        arguments = [str(num_processes), str(num_epochs), str(out), str(resume)]
        done = subprocess.run(
            [*command, *arguments], env=environment, timeout=280, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return out

    return start


@pytest.fixture(scope="module")
def whole(run):
    return run("single", 1, 2)


def losses_of(out):
    return json.loads((out / "losses.json").read_text())


def assert_states_are_close(found, expected):
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(found["state_dict"][name], value, atol=1e-5, rtol=0, msg=name)
    [states], [expected_states] = found["optimizer_states"], expected["optimizer_states"]
    assert states["state"].keys() == expected_states["state"].keys()
    for name, fields in expected_states["state"].items():
        for field, value in fields.items():
            other = states["state"][name][field]
            torch.testing.assert_close(other, value, atol=1e-5, rtol=0, msg=f"{name} {field}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "num_processes", "then"),
    [
        ("single", 1, [("fsdp2", 3)]),
        ("ddp", 2, [("single", 1), ("fsdp2", 3)]),
        (FIND_UNUSED, 2, [(FIND_UNUSED, 3)]),
        ("fsdp2", 2, [("single", 1), ("ddp", 2), ("folder", 3)]),
        ("folder", 2, [("single", 1), ("ddp", 2), ("fsdp2", 3)]),
    ],
)
def test_any_strategy_continues_from_any_others_checkpoint(run, whole, how, num_processes, then):
    """Each run also merges: LoraMerge has compared its logits with those of the merged folder."""
    first = run(how, num_processes, 1)
    checkpoint = first / "a.ckpt"
    assert checkpoint.is_dir() == (how == "folder")
    expected = losses_of(whole)
    # Measured: at most 1e-6 between one process and others, on losses of 6.
    assert losses_of(first) == pytest.approx(expected[:STEPS_PER_EPOCH], abs=1e-5)
    content, final = read_checkpoint(checkpoint), read_checkpoint(whole / "a.ckpt")
    assert content["state_dict"].keys() == final["state_dict"].keys()
    assert content["vidreason"]["world_size"] == len(content["vidreason"]["rng"]) == num_processes
    merged = VideoReasoner.from_pretrained(whole / "reasoner").state_dict()
    for other, others in then:
        second = run(other, others, 2, checkpoint)
        assert losses_of(second) == pytest.approx(expected[STEPS_PER_EPOCH:], abs=1e-5)
        assert_states_are_close(read_checkpoint(second / "a.ckpt"), final)
        found = VideoReasoner.from_pretrained(second / "reasoner").state_dict()
        assert found.keys() == merged.keys()
        for name, value in merged.items():
            torch.testing.assert_close(found[name], value, atol=1e-5, rtol=0, msg=name)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    model, strategy_name, processes, epochs, result, start_from = sys.argv[1:]
    train(model, strategy_name, int(processes), int(epochs), Path(result), start_from or None)
