"""``python -m experiments.train_baseline`` with V-JEPA 2 and MCVD: from videos to folders."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from coded_video import write_video

from experiments.experiment_config import ExperimentConfig
from experiments.train_baseline.__main__ import main
from experiments.train_baseline.config import TrainBaselineConfig
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.epoch_losses import still_falls
from vidreason.baselines.frames import FrameReader
from vidreason.baselines.mcvd.checkpoint import load_folder, read_folder
from vidreason.baselines.vjepa2.system import VJepa2Probe
from vidreason.config import merge_config
from vidreason.example import Example
from vidreason.perception.weights import open_weights
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.reader import DIRECT

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
NUM_VIDEOS = {"train": 4, "val": 2}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Causal-Vid-Instruct of six videos of a second; the first of validation has a new event."""
    root = tmp_path_factory.mktemp("corpus")
    (root / "videos").mkdir()
    number = 0
    for split, size in NUM_VIDEOS.items():
        rows = []
        for index in range(size):
            video_id = f"{split}{index}"
            path = root / "videos" / f"{video_id}.mp4"
            write_video(path, num_frames=25, first_number=7 * number)
            unseen = (split, index) == ("val", 0)
            event = "the sky falls" if unseen else ("it stops", "it leaves")[index % 2]
            rows.append(
                {
                    **{"id": video_id, "source": "x", "video_id": video_id},
                    **{"start": None, "end": None, "instruction": "", "causal_explanation": []},
                    "prediction": event,
                    "predictions": [{"text": event, "justification": "", "confidence": 1.0}],
                    **{"teacher": "", "teacher_prompt_sha": "", "created": "", "license_tag": ""},
                }
            )
            number += 1
        (root / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def data_of(root: Path) -> dict[str, Any]:
    corpora = {
        part: [{"reader": "causal_vid_instruct", "root": str(root), "split": split}]
        for part, split in (("train", "train"), ("validation", "val"))
    }
    return {**corpora, "max_unreadable_fraction": 0.0}


def pretraining(root: Path) -> dict[str, Any]:
    model = {
        **{"image_size": 16, "patch_size": 8, "num_frames": 4, "width": 16, "num_layers": 1},
        **{"num_heads": 2, "predictor_width": 16, "predictor_layers": 1, "predictor_heads": 2},
    }
    section = {
        **{"model": model, "data": data_of(root), "clips_per_video": 2, "batch_size": 3},
        **{"num_epochs": 2, "task": {"momentum": 0.9}},
    }
    return {"kind": "vjepa2_pretraining", "device": "cpu", "vjepa2_pretraining": section}


def probing(root: Path, encoder: Path) -> dict[str, Any]:
    section = {
        **{"encoder": str(encoder), "data": data_of(root), "batch_size": 3, "num_epochs": 4},
        "look_ahead": {"num_frames": 4, "frames_per_second": 8.0},
        **{"num_heads": 2, "num_blocks": 1, "optimizer": {"learning_rate": 0.01}},
    }
    return {"kind": "vjepa2", "device": "cpu", "vjepa2": section}


def diffusing(root: Path) -> dict[str, Any]:
    model = {
        **{"image_size": 8, "num_frames": 1, "num_past_frames": 1, "width": 4, "num_blocks": 1},
        **{"multipliers": [1, 2], "attention_sides": [4], "head_channels": 4, "num_steps": 10},
        **{"sampling_steps": 2, "num_predicted": 1, "frame_rate": 4.0},
    }
    section = {
        **{"model": model, "name": "tiny", "data": data_of(root), "windows_per_video": 2},
        **{"batch_size": 3, "num_epochs": 2, "warm_up_steps": 2, "average_decay": 0.5},
    }
    return {"kind": "mcvd", "device": "cpu", "mcvd": section}


def train(run: Path, config: dict[str, Any], *overrides: str) -> int:
    path = run.parent / f"{run.name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return main(["--config", str(path), f"run_dir={run}", *overrides])


def scores_of(run: Path) -> dict[str, Any]:
    scores: dict[str, Any] = json.loads((run / "scores.json").read_text())
    return scores


def weights(file: Path) -> dict[str, torch.Tensor]:
    with open_weights(str(file)) as opened:
        return {key: opened.read(key) for key in opened.shapes}


def assert_resumed_is_whole(
    whole: Path, config: dict[str, Any], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stop a run when its second epoch begins, go on, and compare with ``whole``."""
    cut = whole.parent / f"{whole.name}-cut"
    checkpoints = cut / "checkpoints"

    def stop_after_first_epoch(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "vidreason.baselines.epoch_losses.EpochLossModule.on_train_epoch_start",
            lambda module: stop_after_first_epoch() if module.current_epoch else None,
        )
        assert train(cut, config) != 0
    assert len(list(checkpoints.glob("*.ckpt"))) == 1
    assert not (cut / "scores.json").exists()
    capsys.readouterr()
    assert train(cut, config) == 0
    whole_weights, resumed = weights(whole / file), weights(cut / file)
    assert whole_weights.keys() == resumed.keys()
    for key, value in whole_weights.items():
        assert torch.equal(value, resumed[key]), key
    assert scores_of(cut) == scores_of(whole)


def test_pretraining_then_a_probe_make_a_system(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder_run, probe_run = tmp_path / "encoder", tmp_path / "probe"
    assert train(encoder_run, pretraining(corpus)) == 0
    scores = scores_of(encoder_run)
    assert (scores["num_clips"], scores["num_steps"]) == (8, 6)
    assert len(scores["epoch_losses"]) == 2
    assert scores["still_falls"] is still_falls(scores["epoch_losses"])
    assert scores["held_out"]["num_clips"] == 4
    assert 0 < scores["held_out"]["loss"] < 2
    # Complete, it says the same again; with other settings, it is refused.
    before = (encoder_run / "scores.json").read_text()
    assert train(encoder_run, pretraining(corpus)) == 0
    assert (encoder_run / "scores.json").read_text() == before
    # The control: no step, and other weights.
    control = tmp_path / "untrained"
    assert train(control, pretraining(corpus), "vjepa2_pretraining.num_epochs=0") == 0
    assert scores_of(control)["still_falls"] is None
    assert scores_of(control)["held_out"]["loss"] != scores["held_out"]["loss"]
    file = "model/model.safetensors"
    drawn, trained = weights(control / file), weights(encoder_run / file)
    assert any(not torch.equal(value, trained[key]) for key, value in drawn.items())

    capsys.readouterr()
    assert train(probe_run, probing(corpus, encoder_run / "model")) == 0
    assert "held out: " in capsys.readouterr().out
    scores = scores_of(probe_run)
    held_out = scores["held_out"]
    assert (scores["num_samples"], scores["num_steps"]) == (4, 8)
    assert (held_out["num_samples"], held_out["num_unseen"]) == (2, 1)
    assert held_out["accuracy"] in (0, 0.5)
    assert held_out["majority_accuracy"] in (0, 0.5)
    assert len(list((probe_run / "latents").iterdir())) == 6
    config = BaselineConfig(
        kind="vjepa2",
        weights={"encoder": str(encoder_run / "model"), "probe": str(probe_run / "probe")},
        dtype="float32",
    )
    assert VJepa2Probe.facts(config).trained_on == ("causal_vid_instruct (train)",)
    system = VJepa2Probe.load(config, DecodingConfig(), torch.device("cpu"))
    media = str(corpus / "videos" / "val1.mp4")
    frames = FrameReader(DIRECT)(media, None, None, VJepa2Probe.frame_rule(config))
    question = Example(
        **{"id": "x", "corpus": "x", "media": media, "video_id": "x"},
        prompt=FUTURE_PREDICTION_PROMPT,
        response="",
    )
    (reply,) = system.predict([frames], [question])
    assert {item.event for item in reply.futures} == {"it leaves", "it stops"}
    # Of another encoder's latents, the probe is refused.
    config.weights["encoder"] = str(control / "model")
    with pytest.raises(ValueError, match="is not the encoder that the probe"):
        VJepa2Probe.load(config, DecodingConfig(), torch.device("cpu"))


def test_mcvd_is_trained_and_its_failures_are_counted(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train(run, diffusing(corpus)) == 0
    scores = scores_of(run)
    assert scores["num_windows"] == 8
    assert scores["held_out"]["num_windows"] == 4
    assert scores["held_out"]["loss"] > 0
    assert len(scores["epoch_losses"]) == 2
    folder = read_folder(run / "model")
    assert (folder.name, folder.origin) == ("tiny", "trained")
    assert folder.trained_on == ["causal_vid_instruct (train)"]
    model = load_folder(run / "model")
    assert model.config.image_size == 8
    # A torn video is too much for a budget of 0, and is written down with any.
    torn = tmp_path / "torn"
    shutil.copytree(corpus, torn)
    (torn / "videos" / "train1.mp4").write_bytes(b"no video")
    assert train(tmp_path / "strict", diffusing(torn)) == 1
    assert "train1.mp4" in capsys.readouterr().err
    lenient = tmp_path / "lenient"
    overrides = ("mcvd.data.max_unreadable_fraction=0.5", "mcvd.batch_size=1")
    assert train(lenient, diffusing(torn), *overrides) == 0
    rows = [json.loads(row) for row in (lenient / "failures.jsonl").read_text().splitlines()]
    assert [Path(row["path"]).name for row in rows] == ["train1.mp4"]
    assert len(scores_of(lenient)["epoch_losses"]) == 2


@pytest.mark.slow
def test_without_validation_there_is_no_score(corpus: Path, tmp_path: Path) -> None:
    encoder = tmp_path / "vjepa2_pretraining"
    for config in (pretraining(corpus), probing(corpus, encoder / "model"), diffusing(corpus)):
        kind = config["kind"]
        overrides = (f"{kind}.data.validation=[]", f"{kind}.num_epochs=1", "num_workers=1")
        assert train(tmp_path / kind, config, *overrides) == 0
        assert scores_of(tmp_path / kind)["held_out"] == {}


@pytest.mark.slow
def test_resumed_runs_give_the_same_weights(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = tmp_path / "encoder"
    for run, config, file in (
        (encoder, pretraining(corpus), "model/model.safetensors"),
        (tmp_path / "probe", probing(corpus, encoder / "model"), "probe/probe.safetensors"),
        (tmp_path / "mcvd", diffusing(corpus), "model/model.safetensors"),
    ):
        assert train(run, config) == 0
        assert_resumed_is_whole(run, config, file, capsys)


def test_the_overlays_of_evaluate_name_what_training_writes() -> None:
    trained = {
        config.kind: config
        for name in ("vjepa2_pretraining", "vjepa2", "mcvd")
        for config in [
            merge_config(
                TrainBaselineConfig, [str(CONFIGS / "train_baseline" / f"{name}_microworld.yaml")]
            )
        ]
    }
    rows = {
        name: row
        for kind in ("vjepa2", "mcvd")
        for name, row in merge_config(
            ExperimentConfig, [str(CONFIGS / "baselines" / f"{kind}_microworld.yaml")]
        ).baselines.items()
    }
    encoder = f"{trained['vjepa2_pretraining'].run_dir}/model"
    probe = f"{trained['vjepa2'].run_dir}/probe"
    assert trained["vjepa2"].vjepa2.encoder == encoder
    assert rows["vjepa2"].weights == {"encoder": encoder, "probe": probe}
    for name in ("mcvd", "mcvd_observed"):
        assert rows[name].weights == {"model": f"{trained['mcvd'].run_dir}/model"}
        assert rows[name].captioner in rows


def test_mistakes_are_said_in_a_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = []
    for config, override, message in (
        (
            pretraining(corpus),
            "vjepa2_pretraining.data.train=[]",
            "pretraining.data.train is empty",
        ),
        (pretraining(corpus), "vjepa2_pretraining.num_epochs=-1", "vjepa2_pretraining.num_epochs"),
        (pretraining(corpus), "vjepa2_pretraining.model.image_size=60", "not a multiple"),
        (probing(corpus, tmp_path), "vjepa2.encoder=", "vjepa2.encoder is empty"),
        (probing(corpus, tmp_path), "vjepa2.batch_size=0", "vjepa2.batch_size is 0"),
        (probing(corpus, tmp_path / "none"), "seed=0", "vjepa2.encoder: weights: there is no"),
        (diffusing(corpus), "mcvd.learning_rate=0", "mcvd.learning_rate is 0"),
        (diffusing(corpus), "mcvd.data.max_unreadable_fraction=2", "max_unreadable_fraction is 2"),
        (diffusing(corpus), "mcvd.model.image_size=9", "must be divisible by 2"),
        (diffusing(corpus), "mcvd.model.frame_rate=0.1", "shorter than a window"),
    ):
        status = train(tmp_path / "wrong", config, override)
        error = capsys.readouterr().err
        if status == 0 or message not in error:
            wrong.append(f"{override}: {status}, {error}")
    assert not wrong
