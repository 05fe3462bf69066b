"""The example packages through the programs: perceive, fit, evaluate; and what is no such part."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from installed_package import install_examples, install_points
from tiny_experiment import write_clip

from experiments.evaluate.run import evaluate
from experiments.experiment_config import CALLBACK_GROUP, ExperimentConfig
from experiments.fit.added_callbacks import added_callbacks
from experiments.fit.metrics_log import read_metrics
from experiments.fit.run import fit
from experiments.kept_runs import ROW_NAMES
from experiments.perceive.run import perceive
from experiments.start_checks.checks import find_problems
from vidreason import load
from vidreason.config import ConfigurationError, merge_config
from vidreason.evaluation.added_protocols import PROTOCOL_GROUP, corpus_protocols
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.protocols import PROTOCOLS


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the example packages of a corpus and of parts."""
    install_examples(tmp_path, monkeypatch)


@pytest.fixture
def file(tiny_experiment: Path, tmp_path: Path) -> str:
    """Write a configuration with an encoder, a corpus, a callback and a metric of packages."""
    root = tmp_path / "mine"
    root.mkdir()
    lines = []
    for number in range(4):
        write_clip(root / f"{number}.mp4", number)
        lines.append(f"{number}.mp4: what moves? a square of number {number}\n")
    for split in ("train", "val", "test"):
        (root / f"{split}.txt").write_text("".join(lines))
    config = yaml.safe_load(tiny_experiment.read_text())
    config["run_dir"] = str(tmp_path / "run")
    config["store"] = {"path": str(tmp_path / "store")}
    config["perceiver"]["video_encoder"] = {
        **{"name": "resnet_frames", "allow_random_weights": True},
        **{"image_size": 32, "num_frames": 2},
    }
    corpus = {"reader": "colon_lines", "root": str(root)}
    config["data"]["train"] = [corpus]
    config["data"]["validation"] = [{**corpus, "split": "val"}]
    config["data"]["benchmark"] = [{**corpus, "split": "test"}]
    config["evaluation"] = {"protocols": {"colon_lines": "token_f1"}, "every_n_steps": 2}
    config["trainer"]["callbacks"] = {"gradient_norms": {"every_n_steps": 2}}
    config["optimizer"]["warmup_steps"] = 1
    config["controls"] = ["none"]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.mark.usefixtures("installed")
def test_parts_of_packages_go_through_the_programs(file: str, tmp_path: Path) -> None:
    config = merge_config(ExperimentConfig, [file])
    counts = perceive(config)
    assert (counts.perceived, counts.unreadable) == (4, 0)
    fit(config)
    # Two steps of four samples; the callback logs at the second alone, which is row 1.
    norms = {
        step: metrics["gradient_norm/fusion"]
        for step, metrics in read_metrics(config.run_dir).items()
        if "gradient_norm/fusion" in metrics
    }
    assert list(norms) == [1]
    assert norms[1] > 0
    runs = evaluate(config)[ROW_NAMES["none"]]
    assert len(runs) == 4
    evaluation = Path(config.run_dir, "evaluation")
    assert "token F1" in (evaluation / "tables.md").read_text()
    metrics = json.loads((evaluation / "metrics.json").read_text())
    protocol = corpus_protocols(config.evaluation)["colon_lines"]
    mean = sum(protocol.measure(row) or 0.0 for row in runs) / 4
    (scored,) = metrics["runs"][ROW_NAMES["none"]]
    assert scored["accuracy"] == pytest.approx(mean)
    # The folder finds the encoder, as an installed vidreason by itself would; a module that it
    # names is not imported.
    reasoner = Path(config.run_dir, "reasoner")
    assert load(str(reasoner)).ask(str(tmp_path / "mine" / "0.mp4"), "what moves?").text
    values = (reasoner / "config.json").read_text()
    assert json.loads(values)["added_parts"] == {
        "video_encoder": {"version": 1, "package": "installed 1.0"}
    }
    assert "`resnet_frames` of the package `installed 1.0`" in (reasoner / "README.md").read_text()
    changed = values.replace('"resnet_frames"', '"unseen_module:Encoder"')
    assert changed != values
    (reasoner / "config.json").write_text(changed)
    with pytest.raises(ValueError, match=r"config.json: perceiver.video_encoder.name is 'unseen_"):
        load(str(reasoner))
    # A run learns with the callbacks that it began with.
    for override, message in {
        "trainer.callbacks=": "trainer.callbacks.gradient_norms: {'every_n_steps': 2} -> 'absent'",
        "trainer.callbacks.gradient_norms=": "gradient_norms.every_n_steps: 2 -> 'absent'",
        "trainer.callbacks.gradient_norms.every_n_steps=1": "gradient_norms.every_n_steps: 2 -> 1",
    }.items():
        (problem,) = find_problems(merge_config(ExperimentConfig, [file], [override]), "fit")
        assert message in problem


@pytest.mark.usefixtures("installed")
def test_the_metric_of_the_example() -> None:
    measure = corpus_protocols(EvaluationConfig(protocols={"c": "token_f1"}))["c"].measure

    def score(parsed: str | None) -> float | None:
        reference = ("a red ball", "a blue square leaves")
        row = BenchmarkPrediction(id="1", corpus="c", video_id="v", output="", reference=reference)
        return measure(replace(row, parsed=parsed))

    assert score("a red ball") == 1
    assert score("the red square") == pytest.approx(1 / 3)  # one of 3 words, one of 3
    assert score("nothing") == 0
    assert score(None) is None


def test_protocols_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert corpus_protocols(EvaluationConfig()) is PROTOCOLS
    content = "from vidreason.evaluation.protocols import Protocol, Score\nFIVE = 5\n"
    content += "TWO = Protocol(measure=lambda row, reference: 1.0)\n"
    content += "LATE = Protocol(further={'x': Score('why', lambda row: 1.0, lambda: True)})\n"
    (tmp_path / "odd_protocol.py").write_text(content)
    install_points(tmp_path, monkeypatch, {PROTOCOL_GROUP: {"five": "odd_protocol:FIVE"}})
    for corpus, name, message in (
        ("mine", "five", "five = 'odd_protocol:FIVE' of .* is a int; it has to be a vid.*Protocol"),
        ("mine", "fives", "evaluation.protocols.mine is 'fives', .*did you mean five"),
        ("mine", "odd_protocol:TWO", r"its measure takes \(row, reference\), and is called as acc"),
        ("mine", "odd_protocol:LATE", r"its further\['x'\].applies takes \(\), and is called as"),
        ("mine", "odd_protocol:SIX", "'odd_protocol:SIX' .* cannot be imported"),
        ("nextqa", "star", "'nextqa' is scored as its benchmark is: take it off"),
    ):
        overrides = [f"evaluation.protocols={{{corpus}: '{name}'}}", f"run_dir={tmp_path}"]
        (problem,) = (
            line
            for line in find_problems(merge_config(ExperimentConfig, [], overrides), "evaluate")
            if name in line
        )
        assert re.search(message, problem), problem
    # A corpus of one's own in the form of one that has a protocol.
    mine = corpus_protocols(EvaluationConfig(protocols={"mine": "nextqa"}))["mine"]
    assert mine is PROTOCOLS["nextqa"]
    # One that has a name of its own is scored as its format is, unless it is said otherwise.
    named = ["data.benchmark=[{reader: clevrer, root: r, name: mine}]"]
    for more, protocol in (([], "clevrer"), (["evaluation.protocols={mine: star}"], "star")):
        config = merge_config(ExperimentConfig, [], named + more)
        assert corpus_protocols(config.evaluation)["mine"] is PROTOCOLS[protocol]
    with pytest.raises(ValueError, match=r"clevrer.name is 'vcr'; .*not the name of another"):
        merge_config(
            ExperimentConfig, [], ["data.benchmark=[{reader: clevrer, root: r, name: vcr}]"]
        )


CALLBACKS = """
from lightning.pytorch.callbacks import Callback
class Odd: pass
class Deaf(Callback):
    def on_train_batch_end(self, trainer, module):
        pass
class Stops(Callback):
    def __init__(self, steps):
        if steps < 1:
            raise ValueError(f"steps is {steps}")
        self.steps = steps
"""


def test_callbacks_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_callback.py").write_text(CALLBACKS)
    points = {"odd": "odd_callback:Odd", "stops": "odd_callback:Stops", "no": "odd_callback:No"}
    points["deaf"] = "odd_callback:Deaf"
    install_points(tmp_path, monkeypatch, {CALLBACK_GROUP: points})

    def callbacks(text: str) -> dict[str, dict[str, object]]:
        return merge_config(ExperimentConfig, [], [f"trainer.callbacks={text}"]).trainer.callbacks

    for text, message in {
        "{odd: {}}": "is the class Odd; it is no lightning.pytorch.callbacks.Callback",
        "{no: {}}": "no = 'odd_callback:No' of vidreason.callbacks cannot be imported",
        "{deaf: {}}": r"its on_train_batch_end takes \(self, trainer, module\), and is called as",
        "{stops: {}}": "callbacks.stops is made with {}: missing .*'steps'; it takes .steps",
        "{stops: {steps: 1, of: 2}}": "got an unexpected keyword argument 'of'",
    }.items():
        config = merge_config(ExperimentConfig, [], [f"trainer.callbacks={text}"])
        assert any(re.search(message, line) for line in find_problems(config, "fit")), text
    with pytest.raises(ValueError, match=r"stops = .*: ValueError: steps is 0"):
        added_callbacks(callbacks("{stops: {steps: 0}}"))
    (made,) = added_callbacks(callbacks("{'odd_callback:Stops': {steps: 3}}"))
    assert made.steps == 3
    with pytest.raises(ConfigurationError, match=r"trainer.callbacks is 'stop', .*mean stops"):
        callbacks("{stop: {}}")
