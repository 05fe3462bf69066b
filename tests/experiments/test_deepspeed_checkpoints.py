"""DeepSpeed's folders, written by DeepSpeed itself, become files; needs the package deepspeed.

One process on the CPU, without Lightning. Run as a program, this file writes such a folder.
"""

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from tiny_training import tiny_loader, tiny_module, tiny_training_reasoner

from experiments.checkpoint.__main__ import main
from vidreason.training.checkpoint import load_trainable
from vidreason.training.checkpoint_files import read_checkpoint
from vidreason.training.checkpoint_format import RunIdentity, make_record, name_optimizer_state

TESTS = Path(__file__).parents[1]


def write(language_model: str, folder: Path, stage: int) -> None:
    """Make one step under ZeRO, and save as Lightning's strategy does."""
    import deepspeed

    deepspeed.init_distributed("gloo")
    module = tiny_module(language_model)
    reasoner = module.reasoner
    module.identity = RunIdentity({"seed": 0}, lambda: {"language_model": "aa"})
    record = make_record(module)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=0.01)
    name_optimizer_state(optimizer, module)
    settings = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=settings)
    log_likelihoods = engine.module.reasoner(**next(iter(tiny_loader(reasoner, 4))))
    engine.backward(-log_likelihoods.mean())
    engine.step()
    client = {"vidreason": record, "epoch": 0, "global_step": 1, "pytorch-lightning_version": "2"}
    engine.save_checkpoint(
        str(folder), client_state=client, tag="checkpoint", exclude_frozen_parameters=True
    )
    parameters = [(n, p) for n, p in reasoner.named_parameters() if p.requires_grad]
    with deepspeed.zero.GatheredParameters([p for _, p in parameters], enabled=stage == 3):
        torch.save({name: p.detach().clone() for name, p in parameters}, f"{folder}.expected")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="the package deepspeed is not installed"
)
@pytest.mark.parametrize("stage", [2, 3])
def test_a_folder_of_deepspeed_becomes_a_file_to_start_from(
    tiny_language_model_folder, tmp_path, stage
):
    folder, out = tmp_path / "zero.ckpt", tmp_path / "out.ckpt"
    path = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    address = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    subprocess.run(
        [sys.executable, __file__, tiny_language_model_folder, str(folder), str(stage)],
        env={**os.environ, **address, "MASTER_PORT": "0", "PYTHONPATH": os.pathsep.join(path)},
        check=True,
        timeout=280,
        capture_output=True,
    )
    # DeepSpeed's reader warns of things of its own.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["consolidate", str(folder), str(out)]) == 0
    consolidated = read_checkpoint(out)
    expected = torch.load(f"{folder}.expected", weights_only=True)
    assert consolidated["state_dict"].keys() == {f"reasoner.{name}" for name in expected}
    for name, value in expected.items():
        assert torch.equal(consolidated["state_dict"][f"reasoner.{name}"], value), name
    assert (consolidated["epoch"], consolidated["global_step"]) == (0, 1)
    other = tiny_training_reasoner(tiny_language_model_folder, lora=True, seed=7)
    assert load_trainable(other, out, expected.keys()) == {"language_model": "aa"}
    assert torch.equal(other.fusion.queries, expected["fusion.queries"])


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    write(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
