"""A checkpoint of any strategy continues under any other, at any number of processes.

Real processes with gloo on the CPU. Run as a program, this file is one of their ranks.
"""

import json
import sys
import warnings
from pathlib import Path

import pytest
import torch
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
from vidreason.training.checkpoint_files import read_checkpoint
from vidreason.training.checkpoint_format import RunIdentity
from vidreason.training.checkpoint_strategies import ShardedStrategy

STEPS_PER_EPOCH = 2
FIND_UNUSED = "ddp_find_unused_parameters_true"


def train(folder, how, num_processes, num_epochs, out, resume):
    """Train on global batches of 6 samples; save, and merge, at the end."""
    plain = {"single": "auto", "ddp": "ddp", FIND_UNUSED: FIND_UNUSED}
    strategy = plain.get(how) or ShardedStrategy(save_distributed_checkpoint=how == "folder")
    module = tiny_module(folder, **BY_GRADIENT)
    module.reasoner.perceiver = PerceiverConfig()
    module.identity = RunIdentity({"seed": 0}, lambda: {"language_model": "aa"})
    losses = StepLosses()
    trainer = tiny_trainer(
        devices=num_processes,
        strategy=strategy,
        max_epochs=num_epochs,
        use_distributed_sampler=False,
        callbacks=[losses, LoraMerge(out / "reasoner")],
    )
    loader = tiny_loader(module.reasoner, 6 // num_processes, 12, this_rank(), num_processes)
    trainer.fit(module, loader, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(out / "a.ckpt", weights_only=False)
    if trainer.is_global_zero:
        (out / "losses.json").write_text(json.dumps(list(losses.by_step.values())))


@pytest.fixture(scope="module")
def run(tiny_language_model_folder, tmp_path_factory):
    """``run(how, num_processes, num_epochs, resume)`` gives the folder of its results."""

    def start(how, num_processes, num_epochs, resume=""):
        out = tmp_path_factory.mktemp(f"{how}-{num_processes}")
        arguments = (tiny_language_model_folder, how, num_processes, num_epochs, out, resume)
        run_as_program(__file__, *arguments)
        return out

    return start


@pytest.fixture(scope="module")
def whole(run):
    return run("single", 1, 2)


def losses_of(out):
    return json.loads((out / "losses.json").read_text())


def assert_states_are_close(result, expected):
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(result["state_dict"][name], value, atol=1e-5, rtol=0, msg=name)
    [states], [expected_states] = result["optimizer_states"], expected["optimizer_states"]
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
        result = VideoReasoner.from_pretrained(second / "reasoner").state_dict()
        assert result.keys() == merged.keys()
        for name, value in merged.items():
            torch.testing.assert_close(result[name], value, atol=1e-5, rtol=0, msg=name)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    model, strategy_name, processes, epochs, result, start_from = sys.argv[1:]
    train(model, strategy_name, int(processes), int(epochs), Path(result), start_from or None)
