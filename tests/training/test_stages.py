import itertools
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from tiny_training import (
    EXPECTED_WARNINGS,
    tiny_fit,
    tiny_loader,
    tiny_module,
    tiny_optimizer,
    tiny_samples,
    tiny_trainer,
    tiny_training_reasoner,
)
from torch.utils.data import DataLoader

from vidreason.perception.visual_tokens import collate_visual_tokens
from vidreason.training import stage
from vidreason.training.checkpoint_files import write_file
from vidreason.training.loss import next_token_loss
from vidreason.training.stage import StageModule
from vidreason.training.trainable import trainable_names

pytestmark = EXPECTED_WARNINGS


class RecordGradients(Callback):
    """Records the gradients of each optimizer step, after normalisation and before clipping."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.losses: list[float] = []
        """One a step."""

    def setup(self, trainer, pl_module, stage):
        clip = pl_module.configure_gradient_clipping

        def record_and_clip(optimizer, *arguments, **options):
            self.gradients.append(
                {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}
            )
            clip(optimizer, *arguments, **options)

        pl_module.configure_gradient_clipping = record_and_clip

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if len(self.losses) < trainer.global_step:
            logged = trainer.callback_metrics.get("train/loss", torch.tensor(0.0))
            self.losses.append(logged.item())


def fit(module, *callbacks, **options):
    record = RecordGradients()
    tiny_fit(module, record, *callbacks, **options)
    return record


def test_the_loss_is_a_sum_and_a_count():
    loss_sum, count = next_token_loss(torch.tensor([-1.0, -0.5, -2.0]))
    assert (loss_sum.item(), count.item()) == (3.5, 3)
    assert [x.item() for x in next_token_loss(torch.zeros(0))] == [0, 0]


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "samples_of_steps"),
    [(8, 1, [8, 8]), (4, 2, [8, 8]), (2, 4, [8, 8]), (3, 3, [9, 7])],
)
def test_a_step_is_the_mean_over_its_target_tokens_however_it_is_split(
    tiny_language_model_folder, batch_size, accumulate, samples_of_steps
):
    """Also for a last step of fewer micro-batches, which Lightning divides by all of them."""
    # So slow that all steps start from the same parameters.
    module = tiny_module(tiny_language_model_folder, "alignment", learning_rate=1e-12)
    reasoner = module.reasoner
    options = {"max_epochs": 1, "accumulate_grad_batches": accumulate}
    record = fit(module, batch_size=batch_size, **options)
    assert len(record.gradients) == len(record.losses) == 2

    singles = list(tiny_loader(reasoner, 1))
    start = 0
    for step, size in enumerate(samples_of_steps):
        rows = slice(start, start := start + size)
        module.zero_grad()
        loss = -torch.cat([reasoner(**single) for single in singles[rows]]).mean()
        loss.backward()
        assert record.losses[step] == pytest.approx(loss.item(), rel=1e-5)
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                # Gradients are up to 0.1; sums in another order differ by 1e-7.
                actual = record.gradients[step].pop(name)
                torch.testing.assert_close(actual, parameter.grad, atol=2e-6, rtol=1e-4)
        assert not record.gradients[step]


def test_between_looks_of_the_loggers_the_loss_is_logged_once_a_second(
    tiny_language_model_folder, monkeypatch
):
    """Eight steps take 0.4 seconds each; the loggers write the fourth and the eighth."""
    module = tiny_module(tiny_language_model_folder, "alignment")
    seconds = itertools.count(100.0, 0.4)
    monkeypatch.setattr(stage, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    logged = []
    module.log = lambda name, *_, **__: (
        name == "train/loss" and logged.append(module.trainer.global_step + 1)
    )
    module.log_dict = lambda *_: None
    fit(module, batch_size=2, max_steps=8, log_every_n_steps=4)
    assert logged == [1, 4, 7, 8]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("measured", [True, False])
def test_gradients_are_clipped_after_they_are_normalised(
    tiny_language_model_folder, measured, accumulate
):
    """Also by the length that a callback has measured."""
    norms, answers = [], []

    class Norms(Callback):
        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            if gradients:
                norms.append(torch.nn.utils.get_total_norm(gradients).item())

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            if measured:
                answers.append(pl_module.step_gradient_norm(optimizer).item())

    module = tiny_module(tiny_language_model_folder, "alignment", gradient_clip_norm=0.01)
    record = fit(module, Norms(), max_steps=2, accumulate_grad_batches=accumulate)
    assert len(norms) >= 1
    assert all(norm == pytest.approx(0.01, rel=1e-3) for norm in norms)
    before = [torch.nn.utils.get_total_norm(list(g.values())).item() for g in record.gradients]
    assert all(0.05 < norm < 50 for norm in before)  # of a mean, not of a sum over all tokens
    assert answers == (pytest.approx(before, rel=1e-4) if measured else [])


@pytest.mark.parametrize(
    ("clip_norm", "poison"), [(0.01, 0.0), (1000.0, 0.0), (1000.0, float("nan"))]
)
def test_measured_gradients_are_clipped_as_torch_clips_them(
    tiny_language_model_folder, clip_norm, poison
):
    """Bit by bit, also where they are short enough, or no numbers."""
    expected, clipped = [], []

    class Clip(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            measured = [p for g in optimizer.param_groups for p in g["params"]]
            measured[0].grad.view(-1)[0] += poison
            pl_module.step_gradient_norm(optimizer)
            copies = [torch.nn.Parameter(torch.zeros_like(p)) for p in measured]
            for copy, parameter in zip(copies, measured, strict=True):
                copy.grad = parameter.grad.clone()
            torch.nn.utils.clip_grad_norm_(copies, clip_norm)
            expected.extend(copy.grad for copy in copies)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            groups = trainer.optimizers[0].param_groups
            clipped.extend(p.grad.clone() for g in groups for p in g["params"])

    module = tiny_module(tiny_language_model_folder, "alignment", gradient_clip_norm=clip_norm)
    fit(module, Clip(), max_steps=2 if poison == 0 else 1)
    assert expected
    torch.testing.assert_close(clipped, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_norms_that_a_guard_has_measured_are_logged_as_without_it(
    tiny_language_model_folder, accumulate
):
    logged = {False: [], True: []}

    class Norms(Callback):
        def __init__(self, is_on):
            self.is_on = is_on

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            if self.is_on:
                pl_module.step_gradient_norm(optimizer)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            metrics = trainer.callback_metrics.items()
            logged[self.is_on].append({n: float(v) for n, v in metrics if "gradient" in n})

    for is_on in logged:
        module = tiny_module(tiny_language_model_folder)
        fit(module, Norms(is_on), max_steps=2, accumulate_grad_batches=accumulate)
    assert logged[True] == logged[False]
    assert logged[True][-1].keys() == {"train/gradient_norm_fusion", "train/gradient_norm_lora"}
    assert logged[True][-1] != logged[True][-1 - accumulate]


def test_the_validation_loss_is_over_all_tokens(tiny_language_model_folder):
    losses = []
    for batch_size in (16, 3):
        module = tiny_module(tiny_language_model_folder, "alignment")
        loader = tiny_loader(module.reasoner, batch_size)
        [metrics] = tiny_trainer().validate(module, loader, verbose=False)
        losses.append(metrics["val/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_validation_in_the_midst_of_a_step_does_not_change_it(tiny_language_model_folder):
    records = []
    for options in ({}, {"val_check_interval": 1, "check_val_every_n_epoch": None}):
        module = tiny_module(tiny_language_model_folder, "alignment")
        options |= {"validate": bool(options), "max_epochs": 1, "accumulate_grad_batches": 2}
        records.append(fit(module, **options))
    for first, second in zip(records[0].gradients, records[1].gradients, strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_one_batch_can_be_learnt_by_heart(tiny_language_model_folder):
    """Each video has its own answer to the same question, so the answer is in the tokens alone."""
    settings = {"learning_rate": 2e-2, "warmup_steps": 10, "weight_decay": 0.0}
    module = tiny_module(tiny_language_model_folder, total_steps=80, **settings)
    record = fit(module, max_steps=80, limit_train_batches=1)
    batch = next(iter(tiny_loader(module.reasoner, 4)))
    # A guess among the four letters would have -log(4) = -1.4; the random output layer is not sure.
    assert (module.reasoner(**batch) > -1).all()
    # The frozen random output layer cannot be surer than this of the right tokens.
    assert record.losses[0] > 4 > 0.6 > record.losses[-1]


def test_frozen_parameters_and_modes_stay_through_fit(tiny_language_model_folder):
    module = tiny_module(tiny_language_model_folder)
    reasoner = module.reasoner
    before = {name: value.clone() for name, value in reasoner.named_parameters()}
    modes = []

    class Modes(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            modes.append({n for n, m in pl_module.reasoner.named_modules() if m.training})

    reasoner.eval()
    options = {"max_epochs": 2, "val_check_interval": 2, "num_sanity_val_steps": 1}
    tiny_fit(module, Modes(), validate=True, **options)
    for training in modes:
        assert {"", "fusion"} <= training
        assert all(name == "" or name.startswith("fusion") or "lora_" in name for name in training)
    assert len({frozenset(training) for training in modes}) == 1
    for name, parameter in reasoner.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in module.trainable), name


def saved(module, path, **options):
    """Train; gives what the checkpoint at the end holds."""
    tiny_fit(module, **options).save_checkpoint(path)
    return torch.load(path, weights_only=True)


def test_a_checkpoint_holds_what_trains_and_nothing_else(tiny_language_model_folder, tmp_path):
    module = tiny_module(tiny_language_model_folder)
    checkpoint = saved(module, tmp_path / "a.ckpt", max_steps=2)
    expected = {f"reasoner.{name}" for name in trainable_names(module.reasoner, "instruction")}
    assert set(checkpoint["state_dict"]) == expected
    state = checkpoint["optimizer_states"][0]["state"]
    assert len(state) == len(expected)


def test_other_shapes_are_said_in_a_line(tiny_language_model_folder, tmp_path):
    module = tiny_module(tiny_language_model_folder, "alignment")
    checkpoint = saved(module, tmp_path / "a.ckpt", max_steps=1)
    state = checkpoint["state_dict"]
    checkpoint["state_dict"] = {name: value[:1] for name, value in state.items()}
    write_file(checkpoint, tmp_path / "b.ckpt")
    with pytest.raises(ValueError, match=r"the configuration makes it .*; and \d+ more") as error:
        tiny_fit(module, resume=tmp_path / "b.ckpt", max_steps=2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_a_checkpoint_that_does_not_fit_is_refused(tiny_language_model_folder, tmp_path, change):
    module = tiny_module(tiny_language_model_folder, "alignment")
    checkpoint = saved(module, tmp_path / "a.ckpt", max_steps=1)
    if change == "missing":
        del checkpoint["state_dict"]["reasoner.fusion.queries"]
    else:
        checkpoint["state_dict"]["reasoner.fusion.extra"] = torch.zeros(1)
    write_file(checkpoint, tmp_path / "b.ckpt")
    key = "queries" if change == "missing" else "extra"
    for attempt in (
        lambda: tiny_fit(module, resume=tmp_path / "b.ckpt", max_steps=2),
        lambda: tiny_module(
            tiny_language_model_folder, initial_checkpoint=str(tmp_path / "b.ckpt")
        ),
    ):
        with pytest.raises(ValueError, match=rf"{change} 1 \(reasoner\.fusion\.{key}\)"):
            attempt()


def test_stage_2_starts_from_stage_1(tiny_language_model_folder, tmp_path):
    first = tiny_module(tiny_language_model_folder, "alignment")
    saved(first, tmp_path / "stage1.ckpt", max_steps=2)
    initial = str(tmp_path / "stage1.ckpt")
    second = tiny_module(tiny_language_model_folder, seed=2, initial_checkpoint=initial)
    expected = first.reasoner.fusion.state_dict()
    actual = second.reasoner.fusion.state_dict()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert all(parameter.requires_grad for parameter in second.reasoner.fusion.parameters())

    with pytest.raises(ValueError, match=r"no checkpoint 'nowhere\.ckpt'"):
        tiny_module(tiny_language_model_folder, initial_checkpoint="nowhere.ckpt")


def test_a_resumed_run_equals_an_uninterrupted_one(tiny_language_model_folder, tmp_path):
    """The data position is the data module's affair: here, each run starts on an epoch."""
    whole, half, resumed = (tiny_module(tiny_language_model_folder) for _ in range(3))
    tiny_fit(whole, max_epochs=2)
    saved(half, tmp_path / "half.ckpt", max_epochs=1)
    tiny_fit(resumed, resume=tmp_path / "half.ckpt", max_epochs=2)
    expected = dict(whole.named_parameters())
    for name, parameter in resumed.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    assert not torch.equal(
        expected["reasoner.fusion.queries"],
        dict(half.named_parameters())["reasoner.fusion.queries"],
    )


def test_a_module_comes_back_from_its_checkpoint(tiny_language_model_folder, tmp_path):
    module = tiny_module(tiny_language_model_folder)
    saved(module, tmp_path / "a.ckpt", max_steps=2)
    with pytest.raises(ValueError, match=r"a\.ckpt was not written by experiments\.fit .* pass"):
        StageModule.load_from_checkpoint(tmp_path / "a.ckpt")
    other = tiny_training_reasoner(tiny_language_model_folder, lora=True, seed=2)
    again = StageModule.load_from_checkpoint(
        tmp_path / "a.ckpt", reasoner=other, optimizer=tiny_optimizer()
    )
    assert again.trainable == module.trainable
    assert (again.stage, again.total_steps) == ("instruction", 2)
    for name, value in module.reasoner.named_parameters():
        if name in module.trainable:
            assert torch.equal(value, again.reasoner.get_parameter(name)), name


def test_a_test_is_a_validation_by_another_name(tiny_language_model_folder):
    module = tiny_module(tiny_language_model_folder)
    loader = tiny_loader(module.reasoner, 4)
    (tested,) = tiny_trainer().test(module, loader, verbose=False)
    (validated,) = tiny_trainer().validate(module, loader, verbose=False)
    assert tested == {"test/loss": validated["val/loss"]}


def test_prediction_batches_are_answered(tiny_language_model_folder):
    module = tiny_module(tiny_language_model_folder)
    module.reasoner.decoding.max_new_tokens = 4
    tokens = [sample[0] for sample in tiny_samples(3)]
    prompts = ["Why?", "What?", "Where to?"]
    batches = [
        {"visual": collate_visual_tokens(tokens[:2]), "prompts": prompts[:2]},
        {"visual": collate_visual_tokens(tokens[2:]), "prompts": prompts[2:]},
    ]
    loader = DataLoader(batches, batch_size=None)
    answers = tiny_trainer().predict(module, loader)
    assert [len(answer) for answer in answers] == [2, 1]
    assert list(itertools.chain(*answers)) == module.reasoner.generate(
        collate_visual_tokens(tokens), prompts
    )
