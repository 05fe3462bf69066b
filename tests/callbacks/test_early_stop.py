import pytest
from lightning.pytorch.callbacks import Callback
from tiny_training import tiny_loader, tiny_optimizer, tiny_trainer, tiny_training_reasoner

from callbacks.early_stop import EarlyStop
from vidreason.training.alignment import AlignmentModule

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:Found .* in eval mode at the start of training",  # the frozen ones, on purpose
)


class Given(Callback):
    """Lets each validation log the next of the given values."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/given", self.values.pop(0))


def fit(folder, stop, *values, resume=None, max_epochs=9):
    reasoner = tiny_training_reasoner(folder)
    module = AlignmentModule(reasoner, tiny_optimizer(), total_steps=99)
    trainer = tiny_trainer(
        callbacks=[Given(*values), stop], max_epochs=max_epochs, num_sanity_val_steps=0
    )
    loader = tiny_loader(reasoner, 4, num_samples=8)
    trainer.fit(module, loader, loader, ckpt_path=resume, weights_only=True)
    return trainer


def test_a_run_ends_when_a_metric_stalls_and_stays_ended(tiny_language_model_folder, tmp_path):
    """An epoch has two steps, and a validation."""
    stop = EarlyStop("val/given", "max", patience=2, min_delta=0.1)
    trainer = fit(tiny_language_model_folder, stop, 0.3, 0.5, 0.55, 0.2, 0.9, 0.9)
    assert trainer.global_step == 8
    assert trainer.early_stopping_callback is stop
    assert "did not improve in the last 2" in stop.stopping_reason_message
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    again = EarlyStop("val/given", "max", patience=2, min_delta=0.1)
    resumed = fit(tiny_language_model_folder, again, 0.9, 0.9, resume=tmp_path / "a.ckpt")
    assert resumed.global_step == 8


def test_a_run_that_was_cut_off_goes_on_counting(tiny_language_model_folder, tmp_path):
    half = fit(tiny_language_model_folder, EarlyStop("val/given", "min", 2), 3.0, 4.0, max_epochs=2)
    half.save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    stop = EarlyStop("val/given", "min", 2)
    trainer = fit(tiny_language_model_folder, stop, 3.5, 1.0, resume=tmp_path / "a.ckpt")
    assert trainer.global_step == 6


def test_a_metric_that_is_not_logged_is_refused(tiny_language_model_folder):
    with pytest.raises(ValueError, match=r"trainer.monitor is 'val/los', .* it logs .*val/loss"):
        fit(tiny_language_model_folder, EarlyStop("val/los", "min", 2), 1.0)
