"""Two processes leave the same steps out, thaw the same parts and keep the same average as one.

Under DDP and FSDP2. Run as a program, this file is a rank.
"""

import json
import sys
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from tiny_training import (
    BY_GRADIENT,
    run_as_program,
    this_rank,
    tiny_loader,
    tiny_optimizer,
    tiny_trainer,
    tiny_training_reasoner,
)
from torch.distributed.fsdp import fully_shard

from callbacks.freeze_schedule import FreezeSchedule, Thaw
from callbacks.step_guard import StepGuard, StepGuardConfig
from callbacks.weight_average import WeightAverage, WeightAverageConfig
from vidreason.training.checkpoint_files import read_checkpoint
from vidreason.training.checkpoint_strategies import ShardedStrategy
from vidreason.training.stage import StageModule

BROKEN = "7"
"""A sample of the second step; with two ranks, of the second one."""


class ShardedModule(StageModule):
    def configure_model(self):
        if isinstance(self.trainer.strategy, ShardedStrategy):
            mesh = self.device_mesh["data_parallel"]
            for layer in self.reasoner.language_model.get_base_model().model.layers:
                fully_shard(layer, mesh=mesh)
            fully_shard(self.reasoner, mesh=mesh)


class BreakOne(Callback):
    """Numbers the samples in the global order, and spoils one of them."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        rank, num_ranks = trainer.global_rank, trainer.world_size
        rows = range(len(batch["text"]["lengths"]))
        batch["ids"] = [str(4 * batch_idx + rank + row * num_ranks) for row in rows]
        if trainer.current_epoch == 0 and BROKEN in batch["ids"]:
            batch["visual"]["features"][batch["ids"].index(BROKEN)] = float("nan")


def train(folder: str, out: Path, how: str) -> None:
    """Eight steps of 4 samples, validated behind each fourth."""
    devices = 1 if how == "single" else 2
    strategy = {"single": "auto", "ddp": "ddp"}.get(how) or ShardedStrategy(
        data_parallel_size=2, tensor_parallel_size=1
    )
    reasoner = tiny_training_reasoner(folder, lora=True)
    optimizer = tiny_optimizer(**BY_GRADIENT, learning_rate_factors={"lora": 0.5})
    trainer = tiny_trainer(
        devices=devices,
        strategy=strategy,
        callbacks=[
            WeightAverage(WeightAverageConfig(kind="ema", decay=0.5)),
            BreakOne(),
            FreezeSchedule([Thaw(part="lora", from_step=3, warmup_steps=3)]),
            StepGuard(StepGuardConfig(), str(out)),
        ],
        max_epochs=2,
        use_distributed_sampler=False,
    )
    module = ShardedModule(reasoner, optimizer, total_steps=8, stage="instruction")
    loader = tiny_loader(reasoner, 4 // devices, rank=this_rank(), world_size=devices)
    trainer.fit(module, loader, loader)
    trainer.save_checkpoint(out / "a.ckpt", weights_only=False)
    if trainer.is_global_zero:
        names = ("val/loss", "train/gradient_norm_lora", "train/gradient_norm_fusion")
        metrics = {name: float(trainer.callback_metrics[name]) for name in names}
        (out / "metrics.json").write_text(json.dumps(metrics))


@pytest.mark.slow
def test_two_processes_watch_as_one_does(tiny_language_model_folder, tmp_path):
    results = {}
    for how in ("single", "ddp", "fsdp2"):
        out = tmp_path / how
        out.mkdir()
        run_as_program(__file__, tiny_language_model_folder, out, how)
        [line] = map(json.loads, (out / "skipped.jsonl").read_text().splitlines())
        assert (line["step"], line["cause"]) == (1, "loss nan")
        assert {i for ids in line["ids_by_rank"] for i in ids} == {"4", "5", "6", "7"}
        assert len(line["ids_by_rank"]) == (1 if how == "single" else 2)
        results[how] = (
            read_checkpoint(out / "a.ckpt"),
            json.loads((out / "metrics.json").read_text()),
        )
    expected, metrics = results.pop("single")
    assert not torch.equal(*(expected[kind][LORA] for kind in ("state_dict", "average")))
    for result, others in results.values():
        assert others == pytest.approx(metrics, rel=1e-4)
        for kind in ("state_dict", "average"):
            assert result[kind].keys() == expected[kind].keys()
            for name, value in expected[kind].items():
                other = result[kind][name]
                torch.testing.assert_close(other, value, atol=1e-5, rtol=1e-4, msg=name)


LORA = (
    "reasoner.language_model.base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight"
)

if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    train(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
