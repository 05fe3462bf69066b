import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DeepSpeedStrategy
from tiny_training import EXPECTED_WARNINGS, tiny_fit, tiny_module

from callbacks.step_guard import DivergedError, StepGuard, StepGuardConfig

pytestmark = [EXPECTED_WARNINGS, pytest.mark.filterwarnings("ignore:step . is left out")]
NAN = float("nan")


class Harm(Callback):
    """Names the samples, and spoils what some steps learn from or what comes of it.

    Args:
        loss: Batches whose loss is no number.
        gradient: Batches of which one gradient is not.
    """

    def __init__(self, *, loss=(), gradient=()) -> None:
        self.loss, self.gradient = loss, gradient
        self.states: list[dict] = []
        self.rates: list[float] = []
        self.bad = False

    def on_train_start(self, trainer, pl_module):
        queries = pl_module.reasoner.fusion.queries
        queries.register_hook(lambda gradient: gradient * NAN if self.bad else gradient)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        batch["ids"] = [f"{batch_idx}-{row}" for row in range(len(batch["text"]["lengths"]))]
        self.bad = batch_idx in self.gradient
        if batch_idx in self.loss:
            batch["visual"]["features"][:, 0] = NAN

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        state = trainer.optimizers[0].state_dict()["state"]
        values = {n: p.detach().clone() for n, p in pl_module.named_parameters()}
        self.states.append({"weights": values, "optimizer": copy_of(state)})
        self.rates.append(trainer.callback_metrics.get("train/learning_rate"))


def copy_of(state):
    return {n: {k: v.clone() for k, v in fields.items()} for n, fields in state.items()}


def fit(folder, run_dir, harm, *, guard=None, **options):
    guard = guard or StepGuard(StepGuardConfig(), str(run_dir))
    return tiny_fit(tiny_module(folder, "alignment"), harm, guard, **options)


def lines(run_dir):
    return [json.loads(line) for line in (run_dir / "skipped.jsonl").read_text().splitlines()]


def equal(first, second):
    return all(
        torch.equal(value, second["weights"][name]) for name, value in first["weights"].items()
    ) and all(
        torch.equal(value, second["optimizer"][name][key])
        for name, fields in first["optimizer"].items()
        for key, value in fields.items()
    )


@pytest.mark.parametrize(
    ("harm", "cause"), [({"loss": [1]}, "loss nan"), ({"gradient": [1]}, "gradient nan")]
)
def test_a_step_that_is_no_number_changes_nothing_and_is_written_down(
    tiny_language_model_folder, tmp_path, harm, cause
):
    harm = Harm(**harm)
    trainer = fit(tiny_language_model_folder, tmp_path, harm, max_steps=4)
    before, left_out, after, _ = harm.states
    assert equal(before, left_out)
    assert not equal(left_out, after)
    assert all(value.isfinite().all() for value in harm.states[-1]["weights"].values())
    # It counts as a step, and the learning rate is that of every other run.
    assert trainer.global_step == 4
    unharmed = Harm()
    fit(tiny_language_model_folder, tmp_path / "unharmed", unharmed, max_steps=4)
    assert harm.rates == unharmed.rates
    assert not (tmp_path / "unharmed").exists()
    [line] = lines(tmp_path)
    assert (line["step"], line["epoch"], line["cause"]) == (1, 0, cause)
    assert line["ids_by_rank"] == [["1-0", "1-1", "1-2", "1-3"]]
    assert ("loss" in line) == (cause == "gradient nan")


def test_all_micro_batches_of_the_step_are_left_out(tiny_language_model_folder, tmp_path):
    harm = Harm(loss=[2])
    fit(tiny_language_model_folder, tmp_path, harm, max_epochs=1, accumulate_grad_batches=2)
    assert equal(harm.states[1], harm.states[3])
    [line] = lines(tmp_path)
    assert line["step"] == 1
    assert line["ids_by_rank"] == [[f"{b}-{row}" for b in (2, 3) for row in range(4)]]


def test_a_loss_far_above_those_before_is_left_out(tiny_language_model_folder, tmp_path):
    config = StepGuardConfig(spike_deviations=3.0, window=3)
    harmful = StepGuard(config, str(tmp_path))
    harmful.load_state_dict({"num_skipped": 0, "losses": [1.0, 1.2, 1.1]})
    harm = Harm()
    fit(tiny_language_model_folder, tmp_path, harm, guard=harmful, max_steps=2)
    assert equal(*harm.states)  # losses of 6 or so
    assert [line["cause"].split(" above ")[1] for line in lines(tmp_path)] == [
        "1.1, deviation 0.082"
    ] * 2
    assert harmful.state_dict() == {"num_skipped": 2, "losses": [1.0, 1.2, 1.1]}
    # What is known of fewer steps than the window tells nothing.
    harmless = StepGuard(config, str(tmp_path / "other"))
    harmless.load_state_dict({"num_skipped": 0, "losses": [1.0, 1.2]})
    harm = Harm()
    fit(tiny_language_model_folder, tmp_path, harm, guard=harmless, max_steps=2)
    assert not equal(*harm.states)
    assert len(harmless.state_dict()["losses"]) == 3
    assert harmless.state_dict()["losses"][0] == 1.2


def test_a_run_ends_past_a_number_of_such_steps_that_a_resume_knows(
    tiny_language_model_folder, tmp_path
):
    guard = StepGuard(StepGuardConfig(max_skipped=3), str(tmp_path))
    first = StepGuard(StepGuardConfig(max_skipped=3), str(tmp_path))
    fit(tiny_language_model_folder, tmp_path, Harm(loss=[0, 1]), guard=first, max_steps=4)
    guard.load_state_dict(json.loads(json.dumps(first.state_dict())))
    harm = Harm(loss=[0, 1, 2])
    with pytest.raises(DivergedError, match=r"4 optimizer steps .*max_skipped=3; the last is ste"):
        fit(tiny_language_model_folder, tmp_path, harm, guard=guard, max_steps=4)
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 0, 1]


def test_deepspeed_makes_its_own_steps(tmp_path):
    trainer = SimpleNamespace(strategy=object.__new__(DeepSpeedStrategy))
    guard = StepGuard(StepGuardConfig(), str(tmp_path))
    guard.setup(trainer, None, "fit")
    guard.on_before_optimizer_step(trainer, None, None)  # leaves all alone
    for requested in ({"skip_nonfinite": True}, {"spike_deviations": 4.0}):
        guard = StepGuard(StepGuardConfig(**requested), str(tmp_path))
        with pytest.raises(ValueError, match="cannot leave steps out under DeepSpeed"):
            guard.setup(trainer, None, "fit")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"spike_deviations": 0.0}, "spike_deviations is 0.0"),
        ({"window": 1}, "window is 1"),
        ({"max_skipped": -1}, "max_skipped is -1"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        StepGuardConfig(**fields)
