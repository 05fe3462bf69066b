import pytest
import torch
from lightning.pytorch.callbacks import Callback
from tiny_training import tiny_loader, tiny_optimizer, tiny_trainer, tiny_training_reasoner

from callbacks.freeze_schedule import FreezeSchedule, Thaw
from vidreason.training.instruction import InstructionModule
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


def new_module(folder):
    reasoner = tiny_training_reasoner(folder, lora=True)
    return InstructionModule(reasoner, tiny_optimizer(), total_steps=20)


def fit(module, thaws, **options):
    watch = WatchParts()
    schedule = FreezeSchedule(thaws)
    ckpt_path = options.pop("ckpt_path", None)
    trainer = tiny_trainer(callbacks=[schedule, watch], **options)
    trainer.fit(module, tiny_loader(module.reasoner, 4), ckpt_path=ckpt_path, weights_only=True)
    return watch.changed, trainer


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


def test_mistakes_are_refused(tiny_language_model_folder):
    with pytest.raises(ValueError, match="a part may be listed once"):
        FreezeSchedule([Thaw(part="lora"), Thaw(part="lora", from_step=2)])
    with pytest.raises(ValueError, match="from_step -1"):
        Thaw(part="lora", from_step=-1)
    thaws = [Thaw(part="lora", from_step=1), Thaw(part="fusion", from_step=2)]
    with pytest.raises(ValueError, match="nothing trains at step 0"):
        fit(new_module(tiny_language_model_folder), thaws, max_steps=1)
    # Refused in setup, before any process is started: DDP must be told of unused parameters.
    schedule = FreezeSchedule([Thaw(part="lora", from_step=1)])
    trainer = tiny_trainer(strategy="ddp", max_steps=1)
    with pytest.raises(ValueError, match="ddp_find_unused_parameters_true"):
        schedule.setup(trainer, new_module(tiny_language_model_folder), "fit")
