from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ModelParallelStrategy
from tiny_training import tiny_loader, tiny_optimizer, tiny_trainer, tiny_training_reasoner

from callbacks.freeze_schedule import FreezeSchedule, Thaw
from vidreason.training.instruction import InstructionModule
from vidreason.training.optimizer import learning_rate_ratio
from vidreason.training.trainable import part_names

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:You defined a `validation_step` but have no `val_dataloader`",
    "ignore:Found .* in eval mode at the start of training",  # the frozen ones, on purpose
)


class WatchParts(Callback):
    """Which parts each optimizer step has changed, and which it has kept the moments of."""

    def __init__(self) -> None:
        self.changed: list[set[str]] = []

    def on_train_start(self, trainer, pl_module):
        self.names = {
            part: part_names(pl_module.reasoner, part)
            for part in ("fusion", "lora", "language_model")
        }
        self.before = self.copy(pl_module)
        self.step = trainer.global_step

    def copy(self, pl_module):
        return {n: p.detach().clone() for n, p in pl_module.reasoner.named_parameters()}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            return
        self.step = trainer.global_step
        after = self.copy(pl_module)
        changed = {n for n in after if not torch.equal(after[n], self.before[n])}
        self.changed.append({p for p, names in self.names.items() if names & changed})
        self.before = after


class Losses(Callback):
    """Lets each validation log the next of the given values as its loss."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/given", self.values.pop(0))


class Rates(Callback):
    """The learning rates that each optimizer step was made with."""

    def __init__(self) -> None:
        self.rates: list[dict[str, float]] = []

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        if trainer.global_step:
            metrics = trainer.callback_metrics
            parts = ("fusion", "lora")
            self.rates.append({p: metrics[f"train/learning_rate_{p}"].item() for p in parts})


def new_module(folder, **optimizer):
    reasoner = tiny_training_reasoner(folder, lora=True)
    return InstructionModule(reasoner, tiny_optimizer(**optimizer), total_steps=20)


def fit(module, thaws, **options):
    watch = WatchParts()
    schedule = FreezeSchedule(thaws)
    ckpt_path, validation = options.pop("ckpt_path", None), options.pop("validation", None)
    others = options.pop("callbacks", [])
    trainer = tiny_trainer(callbacks=[*others, schedule, watch], **options)
    loader = tiny_loader(module.reasoner, 4)
    validating = tiny_loader(module.reasoner, 4, num_samples=4) if validation else None
    trainer.fit(module, loader, validating, ckpt_path=ckpt_path, weights_only=True)
    return watch.changed, trainer


def validated(*losses):
    """Options for :func:`fit`: a validation behind every second step, and what each logs."""
    every = {"val_check_interval": 2, "check_val_every_n_epoch": None, "num_sanity_val_steps": 0}
    return {"callbacks": [Losses(*losses)], "validation": True, **every}


def test_a_part_trains_from_its_step(tiny_language_model_folder):
    module = new_module(tiny_language_model_folder)
    changed, _ = fit(module, [Thaw(part="lora", from_step=3)], max_steps=5)
    assert changed == [{"fusion"}] * 3 + [{"fusion", "lora"}] * 2


def test_steps_are_optimizer_steps(tiny_language_model_folder):
    module = new_module(tiny_language_model_folder)
    thaws = [Thaw(part="lora", from_step=2)]
    changed, _ = fit(module, thaws, max_steps=4, accumulate_grad_batches=2)
    assert changed == [{"fusion"}] * 2 + [{"fusion", "lora"}] * 2


def test_a_part_trains_from_its_epoch(tiny_language_model_folder):
    module = new_module(tiny_language_model_folder)
    changed, _ = fit(module, [Thaw(part="fusion", from_epoch=1)], max_epochs=2)
    assert changed == [{"lora"}] * 4 + [{"fusion", "lora"}] * 4


def test_the_language_models_own_weights_can_train(tiny_language_model_folder, tmp_path):
    module = new_module(tiny_language_model_folder)
    thaws = [Thaw(part="language_model", from_step=1), Thaw(part="lora", from_step=2)]
    changed, trainer = fit(module, thaws, max_steps=3)
    assert changed == [
        {"fusion"},
        {"fusion", "language_model"},
        {"fusion", "lora", "language_model"},
    ]
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    state = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert set(state) == {f"reasoner.{name}" for name, _ in module.reasoner.named_parameters()}


def test_frozen_parts_are_in_eval_mode_and_without_gradients(tiny_language_model_folder):
    module = new_module(tiny_language_model_folder)
    modes = []

    class Modes(Callback):
        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            reasoner = pl_module.reasoner
            lora = part_names(reasoner, "lora")
            gradients = [p.grad is not None for n, p in reasoner.named_parameters() if n in lora]
            modes.append((reasoner.fusion.training, any(gradients)))

    thaws = [Thaw(part="lora", from_step=1)]
    trainer = tiny_trainer(callbacks=[FreezeSchedule(thaws), Modes()], max_steps=3)
    trainer.fit(module, tiny_loader(module.reasoner, 4))
    assert modes[1:] == [(True, False), (True, True)]


def test_a_resumed_run_goes_on_with_the_schedule(tiny_language_model_folder, tmp_path):
    thaws = [Thaw(part="lora", from_step=6)]
    whole = new_module(tiny_language_model_folder)
    changed, _ = fit(whole, thaws, max_epochs=2)
    assert changed == [{"fusion"}] * 6 + [{"fusion", "lora"}] * 2

    half = new_module(tiny_language_model_folder)
    _, trainer = fit(half, thaws, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = new_module(tiny_language_model_folder)
    changed, _ = fit(resumed, thaws, max_epochs=2, ckpt_path=tmp_path / "half.ckpt")
    assert changed == [{"fusion"}] * 2 + [{"fusion", "lora"}] * 2
    expected = dict(whole.named_parameters())
    for name, parameter in resumed.named_parameters():
        assert torch.equal(parameter, expected[name]), name


@pytest.mark.parametrize(
    ("thaw", "first_step"),
    [
        (Thaw(part="lora", when_metric="val/given", reaches=2.0), 6),
        (Thaw(part="lora", when_metric="val/given", stalls_for=1), 4),
        (Thaw(part="lora", when_metric="val/given", mode="max", stalls_for=2), 8),
        (Thaw(part="lora", when_metric="val/given", mode="max", reaches=3.5), 4),
        (Thaw(part="lora", when_metric="val/given", reaches=2.0, from_step=7), 7),
    ],
    ids=["reached", "stalled", "highest stalled", "highest reached", "and a step"],
)
def test_a_part_trains_from_the_validation_that_a_metric_asks_for(
    tiny_language_model_folder, thaw, first_step
):
    module = new_module(tiny_language_model_folder)
    options = validated(3.0, 3.5, 2.0, 2.5, 9.0)
    changed, _ = fit(module, [thaw], max_steps=9, **options)
    assert changed == [{"fusion"}] * first_step + [{"fusion", "lora"}] * (9 - first_step)


def test_a_validation_in_the_midst_of_a_step_thaws_the_next(tiny_language_model_folder):
    module = new_module(tiny_language_model_folder)
    thaws = [Thaw(part="lora", when_metric="val/given", reaches=2.0)]
    options = {**validated(3.0, 1.0, 3.0, 3.0, 3.0), "val_check_interval": 1}
    changed, _ = fit(module, thaws, max_steps=2, accumulate_grad_batches=2, **options)
    assert changed == [{"fusion"}, {"fusion", "lora"}]
    module = new_module(tiny_language_model_folder)
    options = {**validated(1.0, 3.0, 3.0, 3.0, 3.0), "val_check_interval": 1}
    changed, _ = fit(module, thaws, max_steps=2, accumulate_grad_batches=2, **options)
    assert changed == [{"fusion"}, {"fusion", "lora"}]


def test_a_thawed_part_warms_up_to_its_own_learning_rate(tiny_language_model_folder):
    factors = {"lora": 0.5}
    module = new_module(tiny_language_model_folder, learning_rate_factors=factors)
    rates = Rates()
    thaws = [Thaw(part="lora", from_step=2, warmup_steps=4)]
    fit(module, thaws, max_epochs=2, callbacks=[rates])
    config = module.optimizer_config
    scheduled = [1e-3 * learning_rate_ratio(step, 20, config) for step in range(7)]
    assert [rate["fusion"] for rate in rates.rates] == pytest.approx(scheduled, rel=1e-6)
    warmth = [1, 1, 0.25, 0.5, 0.75, 1, 1]
    expected = [0.5 * rate * warm for rate, warm in zip(scheduled, warmth, strict=True)]
    assert [rate["lora"] for rate in rates.rates] == pytest.approx(expected, rel=1e-6)


def test_a_run_that_is_resumed_in_a_warm_up_equals_an_uninterrupted_one(
    tiny_language_model_folder, tmp_path
):
    """The metric has thawed the part before, and would not again."""
    thaws = [Thaw(part="lora", when_metric="val/given", reaches=2.0, warmup_steps=6)]
    whole = new_module(tiny_language_model_folder)
    fit(whole, thaws, max_epochs=2, **validated(1.0, 3.0, 3.0, 3.0))
    half = new_module(tiny_language_model_folder)
    _, trainer = fit(half, thaws, max_epochs=1, **validated(1.0, 3.0))
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    [state] = torch.load(tmp_path / "half.ckpt", weights_only=True)["callbacks"].values()
    assert (state["lora"]["thawed_at"], state["lora"]["metric_met"]) == (2, True)
    resumed = new_module(tiny_language_model_folder)
    resuming = {"ckpt_path": tmp_path / "half.ckpt", **validated(3.0, 3.0)}
    changed, _ = fit(resumed, thaws, max_epochs=2, **resuming)
    assert changed == [{"fusion", "lora"}] * 4
    expected = dict(whole.named_parameters())
    for name, parameter in resumed.named_parameters():
        assert torch.equal(parameter, expected[name]), name


def test_a_resumed_run_goes_on_counting_validations(tiny_language_model_folder, tmp_path):
    thaws = [Thaw(part="lora", when_metric="val/given", stalls_for=3)]
    half = new_module(tiny_language_model_folder)
    _, trainer = fit(half, thaws, max_epochs=1, **validated(1.0, 2.0))
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = new_module(tiny_language_model_folder)
    resuming = {"ckpt_path": tmp_path / "half.ckpt", **validated(2.0, 2.0, 2.0, 2.0)}
    changed, _ = fit(resumed, thaws, max_epochs=3, **resuming)
    assert changed == [{"fusion"}] * 4 + [{"fusion", "lora"}] * 4


def test_ddp_is_told_of_unused_parameters(tiny_language_model_folder):
    trainer = tiny_trainer(strategy="ddp", max_steps=1)
    schedule = FreezeSchedule([Thaw(part="lora", from_step=1)])
    schedule.setup(trainer, new_module(tiny_language_model_folder), "fit")
    assert trainer.strategy._ddp_kwargs["find_unused_parameters"] is True


def test_mistakes_are_refused(tiny_language_model_folder):
    with pytest.raises(ValueError, match="a part may be listed once"):
        FreezeSchedule([Thaw(part="lora"), Thaw(part="lora", from_step=2)])
    with pytest.raises(ValueError, match="from_step -1"):
        Thaw(part="lora", from_step=-1)
    thaws = [Thaw(part="lora", from_step=1), Thaw(part="fusion", from_step=2)]
    with pytest.raises(ValueError, match="nothing trains at step 0"):
        fit(new_module(tiny_language_model_folder), thaws, max_steps=1)
    with pytest.raises(ValueError, match="a metric takes one of the two"):
        Thaw(part="lora", when_metric="val/loss")
    with pytest.raises(ValueError, match=r"when_metric '', reaches 2.0"):
        Thaw(part="lora", reaches=2.0)
    with pytest.raises(ValueError, match="stalls_for 0; it must be at least 1"):
        Thaw(part="lora", when_metric="val/loss", stalls_for=0)
    thaws = [Thaw(part="lora", when_metric="val/los", stalls_for=1)]
    with pytest.raises(ValueError, match=r"lora.when_metric is 'val/los', which validation does"):
        fit(new_module(tiny_language_model_folder), thaws, max_steps=2, **validated(1.0))
    schedule = FreezeSchedule([Thaw(part="lora", from_step=1)])
    trainer = SimpleNamespace(strategy=ModelParallelStrategy())  # without our checkpoints
    with pytest.raises(ValueError, match=r"under FSDP2, found ModelParallelStrategy"):
        schedule.setup(trainer, new_module(tiny_language_model_folder), "fit")
