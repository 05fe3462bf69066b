"""Two processes under DDP make the steps that one process makes. Run as a program, it is a rank."""

import sys
import warnings
from pathlib import Path

import pytest
import torch
from tiny_training import (
    BY_GRADIENT,
    run_as_program,
    this_rank,
    tiny_loader,
    tiny_module,
    tiny_trainer,
)

from callbacks.freeze_schedule import FreezeSchedule, Thaw


def train(folder: str, result: Path, devices: int, *, frozen: bool) -> None:
    """Four steps of 8 samples with unequal numbers of target tokens, in 2 micro-batches."""
    module = tiny_module(folder, **BY_GRADIENT)
    trainer = tiny_trainer(
        devices=devices,
        strategy="auto" if devices == 1 else "ddp",
        callbacks=[FreezeSchedule([Thaw(part="lora", from_step=2)])] if frozen else [],
        max_epochs=2,
        accumulate_grad_batches=2,
        use_distributed_sampler=False,
    )
    rank = this_rank()
    trainer.fit(module, tiny_loader(module.reasoner, 4 // devices, rank=rank, world_size=devices))
    loss = trainer.callback_metrics["train/loss"]
    trainer.save_checkpoint(result)
    if trainer.is_global_zero:
        checkpoint = torch.load(result, weights_only=True)
        torch.save({"state": checkpoint["state_dict"], "loss": loss}, result)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True], ids=["", "freeze schedule"])
def test_two_processes_equal_one(tiny_language_model_folder, tmp_path, frozen):
    results = []
    for devices in (1, 2):
        result = tmp_path / f"{devices}.ckpt"
        run_as_program(__file__, tiny_language_model_folder, result, devices, int(frozen))
        results.append(torch.load(result, weights_only=True))
    one, two = results
    assert one["state"].keys() == two["state"].keys()
    torch.testing.assert_close(two["loss"], one["loss"], atol=1e-5, rtol=1e-5)
    for name, value in one["state"].items():
        torch.testing.assert_close(two["state"][name], value, atol=1e-5, rtol=1e-4, msg=name)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    train(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), frozen=bool(int(sys.argv[4])))
