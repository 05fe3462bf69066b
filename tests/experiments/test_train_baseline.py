"""``python -m experiments.train_baseline`` with anticipation: from files to a folder that loads."""

import json
import shutil
from pathlib import Path
from typing import Any

import av
import pytest
import torch
import yaml
from coded_video import draw
from tiny_perceiver import tiny_encoder

from experiments.train_baseline.__main__ import main
from vidreason.baselines.anticipation.folder import load_anticipator
from vidreason.baselines.anticipation.system import Anticipation
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.epoch_losses import still_falls
from vidreason.baselines.frames import FrameReader
from vidreason.example import Example
from vidreason.perception.weights import open_weights
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT
from vidreason.reasoning.reasoner_config import DecodingConfig


@pytest.fixture
def configuration(tmp_path: Path) -> dict[str, Any]:
    """Four recordings of a grammar, of which each fifth frame is another label's, and a video."""
    root = tmp_path / "data"
    for folder in ("groundTruth", "splits"):
        (root / folder).mkdir(parents=True)
    names = []
    for number in range(6):
        parts = [("take_cup", 8 + number), ("pour_milk", 9), ("stir", 12 - number), ("SIL", 5)]
        text = "".join(f"{label}\n" * length for label, length in parts)
        names.append(f"P0{number}_milk")
        (root / "groundTruth" / f"{names[-1]}.txt").write_text(text)
    for split, part in (("train", names[:4]), ("test", names[4:])):
        text = "".join(f"{name}.txt\n" for name in part)
        (root / "splits" / f"{split}.split1.bundle").write_text(text)
    return {
        "kind": "anticipation",
        "device": "cpu",
        "anticipation": {
            "model": {"num_slots": 4, "rnn_width": 8, "head_width": 8},
            "label_files": {"root": str(root), "silent": ["SIL"]},
            "num_epochs": 4,
            "batch_size": 16,
            "num_cuts": 3,
        },
    }


def train(tmp_path: Path, config: dict[str, Any], run: str, *overrides: str) -> int:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return main(["--config", str(path), f"run_dir={tmp_path / run}", *overrides])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    with open_weights(str(folder / "model" / "model.safetensors")) as file:
        return {key: file.read(key) for key in file.shapes}


def test_a_resumed_run_gives_the_same_weights(
    configuration: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, configuration, "whole") == 0
    assert "mean over classes, 20% observed, next 10% " in capsys.readouterr().out
    scores = json.loads((tmp_path / "whole" / "scores.json").read_text())
    assert scores["num_recordings"] == 2
    losses = scores["epoch_losses"]
    assert len(losses) == 4
    assert scores["still_falls"] is still_falls(losses)
    assert all(0 <= x <= 1 for of_share in scores["moc"].values() for x in of_share.values())
    # A run that ended after two of the four epochs: its last checkpoint, and nothing after it.
    assert train(tmp_path, configuration, "cut", "anticipation.num_epochs=2") == 0
    cut = tmp_path / "cut"
    shutil.rmtree(cut / "model")
    (cut / "settings.json").unlink()
    assert train(tmp_path, configuration, "cut") == 0
    whole, resumed = weights(tmp_path / "whole"), weights(cut)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    # Complete, it says the same again; with other settings, it is refused.
    before = (cut / "scores.json").read_text()
    assert json.loads(before) == scores
    assert train(tmp_path, configuration, "cut") == 0
    assert (cut / "scores.json").read_text() == before
    assert train(tmp_path, configuration, "cut", "seed=1") == 2
    assert "holds a run of other settings" in capsys.readouterr().err
    anticipator = load_anticipator(cut / "model", torch.device("cpu"))
    assert anticipator.labels == ("SIL", "pour_milk", "stir", "take_cup")
    assert anticipator.silent == ("SIL",)


def test_cnn_and_recogniser_make_a_system(
    configuration: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section = configuration["anticipation"]
    videos = Path(section["label_files"]["root"]) / "videos"
    videos.mkdir()
    for number in (0, 1, 4):
        with av.open(str(videos / f"P0{number}_milk.mp4"), "w") as container:
            stream: Any = container.add_stream("libx264", rate=15)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for frame in range(34):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(frame), "rgb24")))
            container.mux(stream.encode())
    (videos / "P02_milk.mp4").write_bytes(b"no video")
    encoder = tiny_encoder()
    named = ("image_size", "patch_size", "width", "num_layers", "num_heads", "num_frames")
    sizes = {name: getattr(encoder, name) for name in (*named, "output_dim")}
    section["model"] = {"network": "cnn", "num_rows": 8, "cnn_width": 8, "sigma": 0.5}
    section["recogniser"] = {
        "video_encoder": {"name": "viclip", "allow_random_weights": True, **sizes},
        "num_frames": 4,
        "width": 8,
    }
    section["recogniser_epochs"] = 2
    assert train(tmp_path, configuration, "run") == 0
    out = capsys.readouterr().out
    assert "recogniser: 4 labels; frames labelled rightly: " in out
    assert "1 videos left out" in out
    folder = tmp_path / "run"
    config = BaselineConfig(
        kind="anticipation",
        weights={name: str(folder / name) for name in ("model", "recogniser")},
    )
    assert Anticipation.facts(config).trained_on == ("data (train.split1)",)
    system = Anticipation.load(config, DecodingConfig(), torch.device("cpu"))
    media = str(videos / "P04_milk.mp4")
    frames = FrameReader()(media, None, None, Anticipation.frame_rule(config))
    question = Example(
        **{"id": "x", "corpus": "x", "media": media, "video_id": "x"},
        prompt=FUTURE_PREDICTION_PROMPT,
        response="",
    )
    (reply,) = system.predict([frames], [question])
    assert {item.event for item in reply.futures} == {"pour milk", "stir", "take cup"}
    assert sum(item.probability for item in reply.futures) == pytest.approx(1)


def test_mistakes_are_said_in_a_line(
    configuration: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = []
    for override, message in (
        ("kind=mvcd", "kind is 'mvcd'; it is one of anticipation"),
        ("anticipation.label_files.root=", "found neither"),
        ("anticipation.label_files.train=nosuch", "there is no file"),
        ("anticipation.model.num_rows=6", "it must be a multiple of 4"),
        ("anticipation.num_epochs=0", "anticipation.num_epochs is 0"),
        ("anticipation.learning_rate=0", "anticipation.learning_rate is 0"),
    ):
        status = train(tmp_path, configuration, "wrong", override)
        error = capsys.readouterr().err
        if status != 2 or message not in error:
            wrong.append(f"{override}: {status}, {error}")
    assert not wrong
