from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ModelParallelStrategy, SingleDeviceStrategy
from tiny_training import EXPECTED_WARNINGS, tiny_fit, tiny_module, tiny_trainer
from torch import nn

from callbacks.freeze_schedule import FreezeSchedule, Thaw
from vidreason.training.config import PARTS
from vidreason.training.stage import StageModule
from vidreason.training.trainable import part_names, part_of

pytestmark = EXPECTED_WARNINGS
STEPS_PER_EPOCH = 4
BOTH = {"fusion", "lora"}


def mock_module():
    """A module of which fusion core and adapters train."""
    language_model = nn.ModuleDict({"layer": nn.Linear(1, 1), "lora_A": nn.Linear(1, 1)})
    reasoner = nn.ModuleDict({"fusion": nn.Linear(1, 1), "language_model": language_model})
    module = Mock(spec=StageModule, reasoner=reasoner)
    module.trainable = part_names(reasoner, "fusion") | part_names(reasoner, "lora")
    return module


def mock_trainer(accumulate=1):
    return SimpleNamespace(
        strategy=SingleDeviceStrategy(),
        accumulate_grad_batches=accumulate,
        sanity_checking=False,
        global_step=0,
        current_epoch=0,
    )


def simulate(schedule, num_steps, values=(), *, validate_every=2, accumulate=1, first_step=0):
    """Parts that train in each step; ``values`` are those of validations between micro-batches."""
    module, trainer, values = mock_module(), mock_trainer(accumulate), iter(values)
    schedule.setup(trainer, module, "fit")
    training = []
    for batch in range(first_step * accumulate, num_steps * accumulate):
        trainer.global_step = batch // accumulate
        trainer.current_epoch = trainer.global_step // STEPS_PER_EPOCH
        schedule.on_train_batch_start(trainer, module, None, batch % (STEPS_PER_EPOCH * accumulate))
        named = module.reasoner.named_parameters()
        training.append({part_of(name) for name, value in named if value.requires_grad})
        if (batch + 1) % validate_every == 0 and (value := next(values, None)) is not None:
            trainer.global_step = (batch + 1) // accumulate
            trainer.callback_metrics = {"val/given": torch.tensor(value)}
            schedule.on_validation_end(trainer, module)
    steps = [training[start : start + accumulate] for start in range(0, len(training), accumulate)]
    assert all(parts == step[0] for step in steps for parts in step)
    return [step[0] for step in steps]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("thaw", "first_step"),
    [
        (Thaw(part="lora", from_step=3), 3),
        (Thaw(part="lora", from_epoch=1), 4),
        (Thaw(part="lora", when_metric="val/given", reaches=2.0), 6),
        (Thaw(part="lora", when_metric="val/given", patience=1), 4),
        (Thaw(part="lora", when_metric="val/given", mode="max", patience=2), 8),
        (Thaw(part="lora", when_metric="val/given", mode="max", reaches=3.5), 4),
        (Thaw(part="lora", when_metric="val/given", reaches=2.0, from_step=7), 7),
    ],
    ids=["step", "epoch", "reached", "stalled", "highest stalled", "highest reached", "and a step"],
)
def test_a_part_trains_from_an_optimizer_step_on(thaw, first_step, accumulate):
    values = (3.0, 3.5, 2.0, 2.5, 9.0)
    parts = simulate(
        FreezeSchedule([thaw]), 9, values, validate_every=2 * accumulate, accumulate=accumulate
    )
    assert parts == [{"fusion"}] * first_step + [BOTH] * (9 - first_step)


@pytest.mark.parametrize("values", [(3.0, 1.0, 3.0), (1.0, 3.0, 3.0)])
def test_a_validation_in_the_middle_of_a_step_thaws_the_next(values):
    schedule = FreezeSchedule([Thaw(part="lora", when_metric="val/given", reaches=2.0)])
    assert simulate(schedule, 2, values, validate_every=1, accumulate=2) == [{"fusion"}, BOTH]


def test_a_resumed_run_continues_to_count_validations():
    thaws = [Thaw(part="lora", when_metric="val/given", patience=3)]
    half, resumed = FreezeSchedule(thaws), FreezeSchedule(thaws)
    assert simulate(half, 4, (1.0, 2.0)) == [{"fusion"}] * 4
    resumed.load_state_dict(half.state_dict())
    parts = simulate(resumed, 12, (2.0, 2.0, 2.0, 2.0), first_step=4)
    assert parts == [{"fusion"}] * 4 + [BOTH] * 4


def test_a_thawed_part_warms_up_to_its_own_learning_rate():
    schedule = FreezeSchedule([Thaw(part="lora", from_step=2, warmup_steps=4)])
    simulate(schedule, 3)
    scheduler = SimpleNamespace(get_last_lr=lambda: [0.8, 0.4])
    trainer = SimpleNamespace(lr_scheduler_configs=[SimpleNamespace(scheduler=scheduler)])
    optimizer = SimpleNamespace(param_groups=[{"part": "fusion"}, {"part": "lora"}])
    rates = []
    for trainer.global_step in range(2, 8):
        schedule.on_before_optimizer_step(trainer, None, optimizer)
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert [fusion for fusion, _ in rates] == [0.8] * 6
    assert [lora for _, lora in rates] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


class Watch(Callback):
    """Logs given values in validations; records the parts that each step changes."""

    def __init__(self, *values):
        self.values = list(values)
        self.changed, self.with_gradients = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        reasoner = pl_module.reasoner
        self.before = {n: p.detach().clone() for n, p in reasoner.named_parameters()}

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        named = pl_module.reasoner.named_parameters()
        self.with_gradients.append({part_of(n) for n, p in named if p.grad is not None})

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        named = pl_module.reasoner.named_parameters()
        self.changed.append({part_of(n) for n, p in named if not torch.equal(p, self.before[n])})

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/given", self.values.pop(0))


def fit(module, thaws, watch, **options):
    every = {"val_check_interval": 2, "check_val_every_n_epoch": None, "num_sanity_val_steps": 0}
    options |= {"validate": bool(watch.values), "limit_val_batches": 1, **every}
    return tiny_fit(module, FreezeSchedule(thaws), watch, **options)


def test_parts_learn_when_they_have_thawed_and_checkpoints_hold_them_all(
    tiny_language_model_folder, tmp_path
):
    module, watch = tiny_module(tiny_language_model_folder), Watch()
    thaws = [Thaw(part="language_model", from_step=1), Thaw(part="lora", from_step=2)]
    trainer = fit(module, thaws, watch, max_steps=3)
    assert watch.changed == [{"fusion"}, {"fusion", "language_model"}, set(PARTS)]
    assert watch.with_gradients == watch.changed
    assert module.reasoner.fusion.training
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    state = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert set(state) == {f"reasoner.{name}" for name, _ in module.reasoner.named_parameters()}


def test_a_run_that_is_resumed_in_a_warm_up_equals_an_uninterrupted_one(
    tiny_language_model_folder, tmp_path
):
    """The metric has thawed the part before, and would not again."""
    thaws = [Thaw(part="lora", when_metric="val/given", reaches=2.0, warmup_steps=6)]
    whole, half, resumed = (tiny_module(tiny_language_model_folder) for _ in range(3))
    fit(whole, thaws, Watch(1.0, 3.0, 3.0, 3.0), max_epochs=2)
    fit(half, thaws, Watch(1.0, 3.0), max_epochs=1).save_checkpoint(tmp_path / "half.ckpt")
    [state] = torch.load(tmp_path / "half.ckpt", weights_only=True)["callbacks"].values()
    assert (state["lora"]["thawed_at"], state["lora"]["metric_met"]) == (2, True)
    watch = Watch(3.0, 3.0)
    fit(resumed, thaws, watch, max_epochs=2, resume=tmp_path / "half.ckpt")
    assert watch.changed == [BOTH] * 4
    expected = dict(whole.named_parameters())
    for name, parameter in resumed.named_parameters():
        assert torch.equal(parameter, expected[name]), name


def test_ddp_is_told_of_unused_parameters():
    trainer = tiny_trainer(strategy="ddp", max_steps=1)
    FreezeSchedule([Thaw(part="lora", from_step=1)]).setup(trainer, mock_module(), "fit")
    assert trainer.strategy._ddp_kwargs["find_unused_parameters"] is True


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"from_step": -1}, "from_step is -1"),
        ({"when_metric": "val/loss"}, "a metric takes one of the two"),
        ({"reaches": 2.0}, r"when_metric '', reaches 2.0"),
        ({"when_metric": "val/loss", "patience": 0}, "patience is 0; it must be at least 1"),
    ],
)
def test_impossible_conditions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Thaw(part="lora", **fields)


def test_impossible_schedules_are_refused():
    with pytest.raises(ValueError, match="a part may be listed once"):
        FreezeSchedule([Thaw(part="lora"), Thaw(part="lora", from_step=2)])
    thaws = [Thaw(part="lora", from_step=1), Thaw(part="fusion", from_step=2)]
    with pytest.raises(ValueError, match="nothing trains at step 0"):
        simulate(FreezeSchedule(thaws), 1)
    schedule = FreezeSchedule([Thaw(part="lora", when_metric="val/los", patience=1)])
    with pytest.raises(ValueError, match=r"lora.when_metric is 'val/los', which validation does"):
        simulate(schedule, 2, [1.0])
    trainer = SimpleNamespace(strategy=ModelParallelStrategy())  # without our checkpoints
    with pytest.raises(ValueError, match=r"under FSDP2, found ModelParallelStrategy"):
        schedule.setup(trainer, mock_module(), "fit")
