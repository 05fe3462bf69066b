"""Metrics that are logged together are those that Lightning logs one by one."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from experiments.fit.metrics_log import MetricsLog
from tests.tiny_training import EXPECTED_WARNINGS, tiny_fit, tiny_module
from vidreason.training import stage, step_metrics

pytestmark = EXPECTED_WARNINGS


class LogMore(Callback):
    """Logs in two hooks, a name from the second epoch on, and keeps what the Trainer knows."""

    def __init__(self, log) -> None:
        self.log_values = log
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        values = {"early": torch.tensor(float(trainer.global_step), requires_grad=True)}
        if trainer.current_epoch:
            values["thawed"] = 1 / 3
        self.log_values(pl_module, values)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.log_values(pl_module, {"shown": float(batch_idx)}, prog_bar=True)
        if trainer.global_step % 3 == 0:
            self.log_values(pl_module, {"rare": 0.1 * trainer.global_step, "count": 7})
        kinds = (trainer.callback_metrics, trainer.logged_metrics, trainer.progress_bar_metrics)
        self.seen.append([{k: float(v) for k, v in metrics.items()} for metrics in kinds])


def log_one_by_one(module, values, *, prog_bar=False):
    for name, value in values.items():
        module.log(name, value, prog_bar=prog_bar)


@pytest.mark.parametrize("every", [1, 2])
def test_tables_and_callbacks_get_the_same(
    tiny_language_model_folder, tmp_path, monkeypatch, every
):
    # A second that passes would show the loss of one step more, in one of the two.
    monkeypatch.setattr(stage, "time", SimpleNamespace(monotonic=lambda: 0.0))
    kept = {}
    for name, log in (("together", step_metrics.log_step), ("one by one", log_one_by_one)):
        monkeypatch.setattr(stage, "log_step", log)
        module = tiny_module(tiny_language_model_folder)
        calls = []
        slow = module.log
        module.log = lambda *given, slow=slow, calls=calls, **options: (
            calls.append(given[0]),
            slow(*given, **options),
        )
        logger, more = MetricsLog(str(tmp_path / name)), LogMore(log)
        tiny_fit(
            *(module, more),
            **{"validate": True, "logger": logger, "log_every_n_steps": every, "max_epochs": 3},
            max_steps=10,
        )
        kept[name] = logger.path.read_text(), more.seen, len(calls)
    (table, seen, few), (expected_table, expected, many) = kept.values()
    assert table == expected_table
    assert seen == expected
    assert "thawed" in table
    assert "train/gradient_norm_lora" in table
    assert few < 0.7 * many
