from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ModelParallelStrategy
from tiny_training import EXPECTED_WARNINGS, tiny_fit, tiny_module

from callbacks.weight_average import WeightAverage, WeightAverageConfig
from vidreason.training.checkpoint_files import read_weights_and_record

pytestmark = EXPECTED_WARNINGS


class Weights(Callback):
    """Records the trained weights after each step, and those in validation."""

    def __init__(self, save_to=None) -> None:
        self.of_steps: list[dict[str, torch.Tensor]] = []
        self.validated: list[dict[str, torch.Tensor]] = []
        self.save_to = save_to

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.of_steps.append(weights(pl_module))

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.sanity_checking:
            return
        self.validated.append(weights(pl_module))
        if self.save_to is not None:
            trainer.save_checkpoint(self.save_to, weights_only=False)


def weights(module):
    parameters = module.reasoner.named_parameters()
    return {n: p.detach().clone() for n, p in parameters if n in module.trainable}


def fit(folder, config, *, resume=None, save_to=None, **options):
    """Train tiny; gives the module, the average and what was seen of the weights."""
    module = tiny_module(folder, learning_rate=0.01)
    average = WeightAverage(WeightAverageConfig(**config)) if config else None
    seen = Weights(save_to)
    callbacks = [average, seen] if average else [seen]
    trainer = tiny_fit(module, *callbacks, validate=True, resume=resume, **options)
    return module, average, seen, trainer


def assert_equal(values, expected):
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(values[name], value), name


def assert_close(values, expected):
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(values[name], value, atol=1e-6, rtol=1e-5, msg=name)


def test_an_exponential_average_of_what_trains_and_nothing_else(tiny_language_model_folder):
    config = {"kind": "ema", "decay": 0.5, "from_step": 2}
    options = {"max_steps": 4, "num_sanity_val_steps": 1}
    module, average, seen, _ = fit(tiny_language_model_folder, config, **options)
    _, second, third, fourth = seen.of_steps
    expected = {n: 0.25 * second[n] + 0.25 * third[n] + 0.5 * fourth[n] for n in fourth}
    assert average.averages.keys() == module.trainable
    assert_close(average.averages, expected)
    assert average.num_averaged == 3
    # Validation saw it, at the end of the epoch; and what fit leaves is what is exported.
    for validated in seen.validated:
        assert_equal(validated, average.averages)
    assert_equal(weights(module), average.averages)
    _, _, without, _ = fit(tiny_language_model_folder, None, **options)
    for values, others in zip(seen.of_steps, without.of_steps, strict=True):
        assert_equal(values, others)


def test_the_mean_of_every_second_step(tiny_language_model_folder):
    config = {"kind": "swa", "from_step": 3, "every_n_steps": 2}
    _, average, seen, _ = fit(tiny_language_model_folder, config, max_epochs=2)
    fourth, sixth, eighth = (seen.of_steps[step - 1] for step in (4, 6, 8))
    assert_close(average.averages, {n: (fourth[n] + sixth[n] + eighth[n]) / 3 for n in fourth})
    # The first validation lies behind the first step that counts.
    assert_equal(seen.validated[0], fourth)


def test_training_goes_on_behind_a_validation_and_after_a_resume(
    tiny_language_model_folder, tmp_path
):
    config = {"kind": "ema", "decay": 0.9}
    module, whole, seen, _ = fit(tiny_language_model_folder, config, max_epochs=2)
    path = tmp_path / "half.ckpt"
    # Saved in the midst of the validation, as by a run that is stopped there.
    _, _, half, _ = fit(tiny_language_model_folder, config, max_epochs=1, save_to=path)
    checkpoint = torch.load(path, weights_only=True)
    assert_equal(
        {name.removeprefix("reasoner."): v for name, v in checkpoint["state_dict"].items()},
        seen.of_steps[3],
    )
    assert checkpoint["average"].keys() == checkpoint["state_dict"].keys()
    for validated in half.validated:  # also behind the save
        assert_equal(validated, seen.validated[0])
    resumed, average, _, _ = fit(tiny_language_model_folder, config, max_epochs=2, resume=path)
    assert average.num_averaged == whole.num_averaged == 8
    assert_equal(average.averages, whole.averages)
    assert_equal(weights(resumed), weights(module))


def test_the_next_stage_starts_from_the_average(tiny_language_model_folder, tmp_path):
    _, average, _, trainer = fit(tiny_language_model_folder, {"kind": "swa"}, max_steps=2)
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    weights = read_weights_and_record(tmp_path / "a.ckpt")["state_dict"]
    assert_equal({n.removeprefix("reasoner."): v for n, v in weights.items()}, average.averages)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decay": 1.0}, "decay is 1.0; it must be at least 0 and below 1"),
        ({"from_step": 0}, "from_step is 0"),
        ({"every_n_steps": 0}, "every_n_steps is 0"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        WeightAverageConfig(**fields)


def test_a_strategy_that_keeps_the_weights_elsewhere_is_refused():
    trainer = SimpleNamespace(strategy=ModelParallelStrategy())  # without our checkpoints
    with pytest.raises(ValueError, match=r"found ModelParallelStrategy: set weight_aver"):
        WeightAverage(WeightAverageConfig(kind="ema")).setup(trainer, None, "fit")
