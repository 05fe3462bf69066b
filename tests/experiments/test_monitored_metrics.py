"""A metric that never comes is refused before anything is trained, with the nearest that does."""

import functools

import pytest

from experiments.experiment_config import ExperimentConfig
from experiments.fit import monitored_metrics
from experiments.fit.monitored_metrics import check_monitored
from vidreason.config import merge_config

VALIDATED = "data.validation=[{reader: nextqa, root: x, split: val}]"
BENCHMARK = (
    "data.benchmark=[{reader: nextqa, root: x, split: val}]",
    "evaluation.every_n_steps=0",
)


@functools.cache
def config(*overrides):
    return merge_config(ExperimentConfig, [], overrides)


@pytest.fixture(autouse=True)
def corpora(monkeypatch):
    """A benchmark of one corpus, without files."""

    class Example:
        corpus = "nextqa"

    class Corpora:
        corpora = ([Example()],)

    monkeypatch.setattr(monitored_metrics, "open_corpora", lambda *_: Corpora)


WAITS = {
    "keep_best": ("trainer.keep_best=1", "trainer.monitor={}"),
    "stop": ("trainer.early_stopping_patience=2", "trainer.monitor={}"),
    "thaw": ("freeze_schedule=[{{part: lora, when_metric: {}, reaches: 1.0}}]",),
}


def waiting(waits, metric, *overrides):
    return config(*(text.format(metric) for text in WAITS[waits]), *overrides)


@pytest.mark.parametrize("waits", WAITS)
@pytest.mark.parametrize(
    ("metric", "nearest"),
    [
        ("val/los", "val/loss"),
        ("val_loss", "val/loss"),
        ("train/loss", "val/loss"),  # that of one batch, and not logged at each step
        ("val/nextqa_accuracy", "val/loss"),
    ],
)
def test_a_metric_that_no_validation_logs(waits, metric, nearest):
    with pytest.raises(ValueError, match=rf"'{metric}'.* did you mean {nearest}\?") as error:
        check_monitored(waiting(waits, metric, VALIDATED))
    assert "\n" not in str(error.value)
    assert "evaluation.every_n_steps=0" in str(error.value)


@pytest.mark.parametrize("waits", WAITS)
def test_metrics_that_come(waits):
    check_monitored(waiting(waits, "val/loss", VALIDATED))
    check_monitored(waiting(waits, "val/nextqa_accuracy", VALIDATED, *BENCHMARK))
    with pytest.raises(ValueError, match=r"did you mean val/nextqa_accuracy\?"):
        check_monitored(waiting(waits, "val/nextqa_acuracy", VALIDATED, *BENCHMARK))


def test_without_validations_nothing_comes():
    with pytest.raises(ValueError, match=r"trainer.monitor waits for validations, and there are n"):
        check_monitored(config("trainer.keep_best=1"))
    rare = config("trainer.keep_best=1", VALIDATED, "trainer.validate_every_n_steps=17")
    check_monitored(rare, 17)
    with pytest.raises(ValueError, match=r"none in 16 steps: trainer.validate_every_n_steps is 17"):
        check_monitored(rare, 16)


def test_what_nobody_waits_for_is_not_looked_at():
    check_monitored(config("trainer.monitor=nothing"), 1)


TESTED = (
    "data.benchmark=[{reader: nextqa, root: x, split: test}]",
    "evaluation.every_n_steps=0",
)


@pytest.mark.parametrize("waits", WAITS)
def test_nothing_waits_for_a_test_split_unless_the_words_say_so(waits):
    metric = "val/nextqa_accuracy"
    with pytest.raises(ValueError, match="a test that has chosen is no test any more") as error:
        check_monitored(waiting(waits, metric, VALIDATED, *TESTED))
    assert "split: val" in str(error.value)
    assert str(error.value).endswith("=test/nextqa_accuracy")
    check_monitored(waiting(waits, "test/nextqa_accuracy", VALIDATED, *TESTED))
    # One name for both splits is one accuracy, of both.
    one = "{{reader: nextqa, root: x, split: {}}}"
    both = f"data.benchmark=[{one.format('val')}, {one.format('test')}]"
    with pytest.raises(ValueError, match="a test that has chosen"):
        check_monitored(waiting(waits, metric, VALIDATED, both, TESTED[1]))
    validated = "data.validation=[{reader: nextqa, root: x, split: test}]"
    with pytest.raises(ValueError, match=r"name a validation split in data\.validation"):
        check_monitored(waiting(waits, "val/loss", validated))
