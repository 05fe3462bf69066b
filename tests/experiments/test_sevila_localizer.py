"""SeViLA's localizer through ``train_baseline``, and both parts through ``evaluate``."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from tiny_experiment import PERCEIVER, fill_store, write_nextqa
from tiny_key_frames import NUM_QUERIES, frames_of, tiny_sevila

from experiments.evaluate import __main__ as evaluate_program
from experiments.train_baseline.__main__ import main
from vidreason.baselines.sevila_decoder.localizer_training import LocalizerTraining
from vidreason.evaluation.predictions.row_files import read_predictions_file
from vidreason.model import VideoReasoner

FRAMES = 3
LIMIT = 2


class Setting(NamedTuple):
    folder: Path
    training: dict[str, Any]
    """Configuration of ``train_baseline``."""
    evaluation: dict[str, Any]
    """Configuration of ``evaluate``."""


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory, tiny_language_model_folder: str) -> Setting:
    """An answerer, and questions about videos whose patches are in a store."""
    folder = tmp_path_factory.mktemp("sevila")
    root = folder / "nextqa"
    videos = write_nextqa(root, ("train", "val", "test"))
    store = {"path": str(folder / "store"), "dtype": "float32"}
    fill_store(videos, store["path"], lambda n: frames_of(range(FRAMES * n, FRAMES * (n + 1))))
    tiny_sevila(tiny_language_model_folder, folder / "answerer", seed=2)

    def corpus(split: str) -> list[dict[str, Any]]:
        return [{"reader": "nextqa", "root": str(root), "split": split, "limit": LIMIT}]

    training = {
        "kind": "sevila_localizer",
        "device": "cpu",
        "sevila_localizer": {
            "answerer": str(folder / "answerer"),
            "store": store,
            "optimizer": {"learning_rate": 0.01, "warmup_steps": 1},
            "data": {"train": corpus("train"), "validation": corpus("val")},
            "batch_size": 4,
            "num_epochs": 2,
        },
    }
    evaluation = {
        "perceiver": PERCEIVER,
        "store": store,
        "model": "none",
        "device": "cpu",
        "data": {"benchmark": corpus("test"), "train": corpus("train")},
        "evaluation": {"report_items": 0},
        "decoding": {"max_new_tokens": 4},
        "controls": ["none", "single_frame"],
    }
    return Setting(folder, training, evaluation)


def train(run: Path, config: dict[str, Any], *overrides: str) -> int:
    path = run.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config))
    return main(["--config", str(path), f"run_dir={run}", *overrides])


@pytest.fixture(scope="module")
def trained(setting: Setting) -> Path:
    run = setting.folder / "trained"
    assert train(run, setting.training) == 0
    return run


def evaluate(
    setting: Setting, run: Path, weights: dict[str, str], *overrides: str
) -> tuple[int, Path]:
    config = {
        **setting.evaluation,
        "baselines": {"sevila": {"kind": "sevila_decoder", "weights": weights, "num_frames": 2}},
    }
    path = run.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config))
    status = evaluate_program.main(["--config", str(path), f"run_dir={run}", *overrides])
    return status, run / "evaluation"


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return dict(VideoReasoner.from_pretrained(folder).state_dict())


def test_the_localizer_is_trained_from_the_answerer(setting: Setting, trained: Path) -> None:
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["num_samples"] == LIMIT * FRAMES
    assert scores["num_steps"] == 4
    assert len(scores["epoch_losses"]) == 2
    assert 0 <= scores["held_out"]["accuracy"] <= 1
    assert scores["held_out"]["num_samples"] == LIMIT * FRAMES
    labels = json.loads((trained / "pseudo_labels-train.json").read_text())["labels"]
    assert [len(of_question) for of_question in labels.values()] == [FRAMES] * LIMIT
    # What trains in stage 2 has moved; the language model has not.
    before, after = (weights_of(f) for f in (setting.folder / "answerer", trained / "localizer"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("fusion.image") for name in moved)
    assert any("lora_B" in name for name in moved)
    assert not any("base_layer" in name for name in moved)
    trained_parts = [n for n in before if n.startswith("fusion.") or "lora_" in n]
    assert scores["num_parameters"] == sum(before[name].numel() for name in trained_parts)


def test_a_training_that_was_stopped_ends_as_one_that_was_not(
    setting: Setting, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "stopped"

    begin = LocalizerTraining.on_train_epoch_start

    def stop_in_the_second(module: LocalizerTraining) -> None:
        if module.current_epoch == 1:
            raise ValueError("stopped")
        begin(module)

    with monkeypatch.context() as patched:
        patched.setattr(LocalizerTraining, "on_train_epoch_start", stop_in_the_second)
        with pytest.raises(ValueError, match="stopped"):
            train(run, setting.training)
    assert not (run / "localizer").exists()
    assert len(list((run / "checkpoints").iterdir())) == 1
    assert train(run, setting.training) == 0
    whole, resumed = weights_of(trained / "localizer"), weights_of(run / "localizer")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_checkpoint_holds_what_trains_alone(trained: Path) -> None:
    [path] = (trained / "checkpoints").iterdir()
    content = torch.load(path, weights_only=True)
    parts = {name.split(".")[1] for name in content["state_dict"]}
    assert parts == {"fusion", "language_model"}
    assert all("lora_" in name for name in content["state_dict"] if ".language_model." in name)


def test_both_parts_answer_a_benchmark(setting: Setting, trained: Path, tmp_path: Path) -> None:
    folders = {
        "answerer": str(setting.folder / "answerer"),
        "localizer": str(trained / "localizer"),
    }
    status, folder = evaluate(setting, tmp_path / "run", folders)
    assert status == 0
    rows = read_predictions_file(folder / "predictions-sevila.jsonl").predictions
    assert len(rows) == LIMIT
    for row in rows:
        assert len(row.record["key_frames"]) == 2
        assert len(row.record["localizer_scores"]) == FRAMES
        assert row.num_visual_tokens == NUM_QUERIES * (1 + FRAMES)
    tables = (folder / "tables.md").read_text().replace("\\", "")
    assert "sevila [re-composed]" in tables
    assert "sevila [re-composed], middle frame" in tables
    manifest = json.loads((folder / "metrics.json").read_text())["manifests"]
    described = manifest["sevila [re-composed]"]
    assert described["answering"]["key_frames"] == 2
    assert any("QVHighlights" in line for line in described["system"]["deviations"])
    # Another localizer is another system: its answers are not mixed with these.
    other = {**folders, "localizer": folders["answerer"]}
    assert evaluate(setting, tmp_path / "run", other)[0] == 2


def cut(folder: Path) -> None:
    path = folder / "fusion.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def flip(folder: Path) -> None:
    path = folder / "fusion.safetensors"
    content = bytearray(path.read_bytes())
    content[-10] ^= 0xFF
    path.write_bytes(content)


def no_adapters(folder: Path) -> None:
    shutil.rmtree(next(path for path in folder.iterdir() if path.is_dir()))


def other_architecture(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace("key_frame_qformer", "frame_qformer"))


def other_perceiver(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"num_clips": 2', '"num_clips": 4'))


def removed(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "fusion.safetensors"),
        (flip, "fusion.safetensors"),
        (no_adapters, "adapter"),
        (other_architecture, "'frame_qformer'; SeViLA's parts are trained with"),
        (other_perceiver, "tokens of different perceivers"),
        (removed, "damaged"),
    ],
)
def test_damage_of_a_folder_is_a_clear_error(
    damage: Callable[[Path], None],
    message: str,
    setting: Setting,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(setting.folder / "answerer", damaged)
    damage(damaged)
    folders = {"answerer": str(setting.folder / "answerer"), "localizer": str(damaged)}
    status, _ = evaluate(setting, tmp_path / "run", folders, "controls=[none]")
    said = capsys.readouterr().err
    assert status == 2
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sevila_localizer.answerer=", "sevila_localizer.answerer is empty"),
        ("sevila_localizer.answerer=/absent/reasoner", "/absent/reasoner"),
        ("sevila_localizer.data.train=[]", "sevila_localizer.data.train is empty"),
        ("sevila_localizer.max_text_tokens=20", "max_tokens is 20"),
        ("sevila_localizer.num_epochs=0", "num_epochs"),
    ],
)
def test_mistakes_of_a_training_are_named(
    override: str,
    message: str,
    setting: Setting,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(tmp_path / "run", setting.training, override) == 2
    assert message in capsys.readouterr().err


def test_labels_of_another_answerer_are_refused(
    setting: Setting, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    kept = json.loads((trained / "pseudo_labels-train.json").read_text())
    for content, message in (
        ({**kept, "answerer": "another"}, "was made by another answerer"),
        ({**kept, "labels": {"a": ["yes"]}}, "pseudo_labels-train.json is damaged"),
        ({"answerer": kept["answerer"]}, "pseudo_labels-train.json is damaged"),
    ):
        (run / "pseudo_labels-train.json").write_text(json.dumps(content))
        assert train(run, setting.training) == 2
        assert message in capsys.readouterr().err
    (run / "pseudo_labels-train.json").write_text('{"answerer"')
    assert train(run, setting.training) == 2
    assert "pseudo_labels-train.json" in capsys.readouterr().err
