from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from tiny_training import EXPECTED_WARNINGS, tiny_fit, tiny_module

from callbacks.early_stop import EarlyStop

pytestmark = EXPECTED_WARNINGS


def validate(stop, *values, metric="val/given"):
    """The number of validations after which a run ends."""
    strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision)
    state = SimpleNamespace(fn=TrainerFn.FITTING)
    trainer = SimpleNamespace(
        **{"sanity_checking": False, "fast_dev_run": False, "should_stop": False},
        **{"state": state, "strategy": strategy},
    )
    for trainer.current_epoch, value in enumerate(values, start=1):
        trainer.callback_metrics = {metric: torch.tensor(value)}
        stop.on_validation_end(trainer, None)
        if trainer.should_stop:
            return trainer.current_epoch
    return None


def test_a_run_ends_when_a_metric_stalls():
    stop = EarlyStop("val/given", "max", patience=2, min_delta=0.1)
    assert validate(stop, 0.3, 0.5, 0.55, 0.2, 0.9) == 4
    assert "did not improve in the last 2" in stop.stopping_reason_message


@pytest.mark.parametrize(("patience", "more"), [(2, 1), (3, 2), (4, None)])
def test_a_resumed_run_continues_to_count_with_the_configured_patience(patience, more):
    first, stop = EarlyStop("val/given", "min", 2), EarlyStop("val/given", "min", patience)
    assert validate(first, 3.0, 4.0) is None
    stop.load_state_dict(first.state_dict())
    assert validate(stop, 3.5, 3.5) == more


class Log(Callback):
    """Logs the next of the given values at each validation."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/given", self.values.pop(0))


@pytest.mark.parametrize(("patience", "stops"), [(2, True), (3, False)])
def test_a_run_that_has_stopped_stays_stopped_unless_it_gets_more_patience(patience, stops):
    first, stop = EarlyStop("val/given", "min", 2), EarlyStop("val/given", "min", patience)
    assert validate(first, 3.0, 4.0, 5.0) == 3
    stop.load_state_dict(first.state_dict())
    trainer = SimpleNamespace(should_stop=False)
    stop.on_train_start(trainer, None)
    assert trainer.should_stop == stops


def test_a_resumed_run_that_has_stopped_makes_no_step(tiny_language_model_folder, tmp_path):
    """An epoch has two steps, and a validation."""

    def fit(*values, resume=None):
        module = tiny_module(tiny_language_model_folder, "alignment", total_steps=99)
        callbacks = Log(*values), EarlyStop("val/given", "min", patience=1)
        options = {"max_epochs": 9, "num_sanity_val_steps": 0, "limit_train_batches": 2}
        return tiny_fit(module, *callbacks, validate=True, resume=resume, **options)

    trainer = fit(1.0, 2.0)
    assert trainer.global_step == 4
    assert trainer.early_stopping_callback is not None
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    assert fit(3.0, resume=tmp_path / "a.ckpt").global_step == 4


def test_a_metric_that_is_not_logged_is_refused():
    with pytest.raises(ValueError, match=r"trainer.monitor is 'val/los', .* it logs val/loss"):
        validate(EarlyStop("val/los", "min", 2), 1.0, metric="val/loss")
