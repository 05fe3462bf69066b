"""Baselines through ``evaluate``: rows with tags, controls, one at a time, and kept answers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest
import torch
import yaml

from experiments.evaluate import __main__ as program
from vidreason.baselines import build
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameRule, Frames, middle_frames
from vidreason.baselines.system import Facts, System
from vidreason.evaluation.answerer import Reply
from vidreason.evaluation.predictions.row_files import read_predictions_file
from vidreason.example import Example
from vidreason.reasoning.reasoner_config import DecodingConfig

LOADED: list[str] = []


class Brightest(System):
    """Chooses the option with the number of the brightest of the frames that it is shown."""

    @classmethod
    def load(cls, config: BaselineConfig, decoding: DecodingConfig, device: torch.device) -> Self:
        LOADED.append(config.weights["model"])
        return cls()

    @classmethod
    def facts(cls, config: BaselineConfig) -> Facts:
        return Facts(fidelity="re-composed", source="a test", deviations=("all",))

    @classmethod
    def frame_rule(cls, config: BaselineConfig) -> FrameRule:
        return middle_frames(config.num_frames or 4)

    @classmethod
    def identity(cls, config: BaselineConfig) -> dict[str, str]:
        return dict(config.weights)

    def choose(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        replies = []
        for video, example in zip(videos, examples, strict=True):
            means = video.pixels.float().flatten(1).mean(1)
            index = int(means.argmax()) if len(means) else 0
            replies.append(Reply(output=example.options[index], num_generated_tokens=len(means)))
        return replies


@pytest.fixture
def configuration(
    filmed_experiment: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    monkeypatch.setitem(build.SYSTEMS, "sevila", "test_baseline_runs:Brightest")
    LOADED.clear()
    config: dict[str, Any] = yaml.safe_load(filmed_experiment[0].read_text())
    config["model"] = "none"
    config["controls"] = ["none", "blind", "single_frame", "shuffled_frames", "shuffled"]
    config["baselines"] = {
        name: {"kind": "sevila", "weights": {"model": f"/weights/{name}"}} for name in ("b", "a")
    }
    return config


def run(tmp_path: Path, config: dict[str, Any], *more: str) -> tuple[int, Path]:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    folder = tmp_path / "run"
    return program.main(["--config", str(file), f"run_dir={folder}", *more]), folder / "evaluation"


def test_baselines_are_asked_one_after_another(
    configuration: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, folder = run(tmp_path, configuration)
    assert status == 0
    assert LOADED == ["/weights/b", "/weights/a"]
    tables = (folder / "tables.md").read_text()
    for row in ("b [re-composed]", "a [re-composed], blind", "b [re-composed], middle frame"):
        assert row in tables.replace("\\", "")
    # How many pictures each run was shown.
    shown = {
        control: {
            row.num_generated_tokens for row in read(folder / f"predictions-b{control}.jsonl")
        }
        for control in ("", "-blind", "-single_frame", "-shuffled_frames", "-shuffled")
    }
    assert shown == {
        **{"": {4}, "-blind": {0}, "-single_frame": {1}},
        **{"-shuffled_frames": {4}, "-shuffled": {4}},
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    facts = metrics["manifests"]["a [re-composed]"]["system"]
    assert (facts["fidelity"], facts["deviations"]) == ("re-composed", ["all"])
    # Started again, nothing is loaded; another program scores the same from the files alone.
    assert run(tmp_path, configuration)[0] == 0
    assert len(LOADED) == 2
    before = capsys.readouterr() and (folder / "tables.md").read_text()
    assert program.main(["--from", str(folder)]) == 0
    assert sorted((folder / "tables.md").read_text().split("\n")) == sorted(before.split("\n"))


def test_another_number_of_frames_is_another_run(
    configuration: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, configuration, "controls=[none]")[0] == 0
    assert run(tmp_path, configuration, "controls=[none]", "baselines.a.num_frames=2")[0] == 2
    assert "frames.num_frames" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("baselines.blind.kind=sevila", "'blind' is no name of a baseline"),
        ("baselines.a-b.kind=sevila", "'a-b' is no name of a baseline"),
        ("baselines.c.kind=sevila", "baselines.c.weights has no 'model'"),
        ("baselines.a.weights.mode=x", "baselines.a.weights.mode: a baseline of kind sevila has"),
        ("baselines.a.captioner=a", "baselines.a.captioner is 'a': name another baseline"),
        ("baselines=", "there are none"),
    ],
)
def test_mistakes_are_named_before_anything_is_loaded(
    configuration: dict[str, Any],
    tmp_path: Path,
    override: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(tmp_path, configuration, override)[0] == 2
    assert message in capsys.readouterr().err
    assert not LOADED


def test_missing_weights_are_all_said_before_anything_is_asked(
    configuration: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = str(tmp_path / "absent.safetensors")
    for name in ("first", "second"):
        configuration["baselines"][name] = {"kind": "reasoner", "weights": {"model": absent}}
    assert run(tmp_path, configuration)[0] == 2
    said = capsys.readouterr().err
    assert "2 things are wrong" in said
    assert "baselines.first: " in said
    assert "baselines.second: " in said
    assert not LOADED


def read(path: Path) -> tuple[Any, ...]:
    return tuple(read_predictions_file(path).predictions)
