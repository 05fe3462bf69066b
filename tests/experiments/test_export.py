"""``vidreason export``: from checkpoints of real runs to folders that answer."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from experiments.experiment_config import ExperimentConfig
from experiments.fit.run import fit
from experiments.trained_model import trained_steps
from vidreason import cli
from vidreason.config import merge_config
from vidreason.model import VideoReasoner
from vidreason.pretrained import hub
from vidreason.training.checkpoint_files import write_file


@pytest.fixture(scope="module")
def stage1(tiny_experiment, tmp_path_factory):
    """Overrides for stage 1 on captions of the tiny corpus' videos, which the store knows."""
    root = tmp_path_factory.mktemp("captions")
    videos = sorted((tiny_experiment.parent / "nextqa" / "NExTVideo" / "00").glob("*.mp4"))
    (root / "videos").mkdir()
    for video in videos:
        shutil.copy(video, root / "videos")
    rows = [f"{video.stem},it falls down,nan" for video in videos]
    (root / "train.csv").write_text("\n".join(["videoid,name,page_dir", *rows]) + "\n")
    corpora = f"[{{reader: webvid, root: {root}, split: train}}]"
    return [
        *("stage=alignment", "reasoner.lora=null"),
        *(f"data.train={corpora}", "data.validation=[]", "trainer.stop_after_steps=2"),
    ]


@pytest.fixture(scope="module")
def runs(tiny_experiment, stage1, tmp_path_factory):
    """The folders of a stage 1 run and of a stage 2 run of 4 steps."""
    folder = tmp_path_factory.mktemp("runs")
    first = f"initial_checkpoint={folder / 'alignment' / 'checkpoints' / 'last.ckpt'}"
    stage2 = ["stage=instruction", "trainer.stop_after_steps=4", first]
    for name, overrides in (("alignment", stage1), ("instruction", stage2)):
        run_dir = f"run_dir={folder / name}"
        fit(merge_config(ExperimentConfig, [str(tiny_experiment)], [run_dir, *overrides]))
    return folder


def trained_values(checkpoint):
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    return {name.removeprefix("reasoner."): value for name, value in state.items()}


@pytest.mark.parametrize(
    ("stage", "corpus", "step"),
    [("alignment", "webvid (train)", 2), ("instruction", "nextqa (train)", 4)],
)
def test_a_run_becomes_a_folder_of_what_it_trained(runs, tmp_path, capsys, stage, corpus, step):
    assert cli.main(["export", str(runs / stage), str(tmp_path / "out")]) == 0
    assert f"step-0000000{step}.ckpt, form 'trained'" in capsys.readouterr().out
    loaded = VideoReasoner.from_pretrained(tmp_path / "out")
    expected = trained_values(runs / stage / "checkpoints" / "last.ckpt")
    exported = loaded.state_dict()
    assert all(torch.equal(exported[name], value) for name, value in expected.items())
    assert (loaded.config.lora is not None) == (stage == "instruction")
    config = merge_config(ExperimentConfig, [str(runs / stage / "config.yaml")])
    assert trained_steps(config) == step
    assert trained_steps(replace(config, model=str(tmp_path / "out"))) is None  # not this run's
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"- stage: {stage}\n- data of this stage: {corpus}\n" in card
    assert f"- checkpoint: step-0000000{step}.ckpt" in card


def test_merged_it_is_what_training_has_left(runs, tmp_path):
    """The callback merges the model in training, the program one whose base it never loaded."""
    out = tmp_path / "out"
    assert cli.main(["export", str(runs / "instruction"), str(out), "--merged"]) == 0
    for name in ("fusion.safetensors", "language_model/model.safetensors", "config.json"):
        expected = (runs / "instruction" / "reasoner" / name).read_bytes()
        assert (out / name).read_bytes() == expected, name


def test_an_earlier_checkpoint_can_be_taken(runs, tmp_path):
    # By itself, away from its run: it carries its configuration.
    kept = runs / "instruction" / "checkpoints" / "step-00000002.ckpt"
    checkpoint = Path(shutil.copy(kept, tmp_path / "mine.ckpt"))
    assert cli.main(["export", str(checkpoint), str(tmp_path / "out")]) == 0
    exported = VideoReasoner.from_pretrained(tmp_path / "out").state_dict()
    expected = trained_values(checkpoint)
    assert all(torch.equal(exported[name], value) for name, value in expected.items())
    newest = trained_values(runs / "instruction" / "checkpoints" / "last.ckpt")
    assert not torch.equal(expected["fusion.queries"], newest["fusion.queries"])


@pytest.mark.parametrize("stage", ["alignment", "instruction"])
def test_thawed_weights_need_the_merged_form(tiny_experiment, stage1, tmp_path, capsys, stage):
    """In stage 2 that is full fine-tuning: there are no adapters."""
    thaw = "freeze_schedule=[{part: language_model}]"
    stage2 = ["stage=instruction", "reasoner.lora=null", "trainer.stop_after_steps=2"]
    settings = stage1 if stage == "alignment" else stage2
    overrides = [f"run_dir={tmp_path / 'run'}", *settings, thaw]
    fit(merge_config(ExperimentConfig, [str(tiny_experiment)], overrides))
    assert cli.main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 2
    assert "own weights were trained" in capsys.readouterr().err
    assert cli.main(["export", str(tmp_path / "run"), str(tmp_path / "out"), "--merged"]) == 0
    exported = VideoReasoner.from_pretrained(tmp_path / "out").state_dict()
    expected = trained_values(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert any(name.startswith("language_model.") for name in expected)
    assert any(name.startswith("fusion.") for name in expected)
    assert all(torch.equal(exported[name], value) for name, value in expected.items())


def test_scores_and_a_place_for_the_language_model_can_be_given(
    runs, tmp_path, tiny_language_model_folder, capsys
):
    row = {"corpus": "nextqa", "group": "all", "num_questions": 25, "num_videos": 5}
    rows = [row | {"accuracy": 0.4, "low": 0.21, "high": 0.6}]
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps({"model": "runs/x", "runs": {"full model": rows}}))
    shutil.copytree(tiny_language_model_folder, tmp_path / "moved")
    out = tmp_path / "out"
    given = ["--metrics", str(metrics), "--part", f"language_model={tmp_path / 'moved'}"]
    assert cli.main(["export", str(runs / "instruction"), str(out), *given]) == 0
    card = (out / "README.md").read_text()
    assert "| full model | nextqa | all | 25 | 5 | 40.0 [21.0, 60.0] |" in card
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["library_name"] == "vidreason"
    assert front["pipeline_tag"] == "video-text-to-text"
    config = json.loads((out / "config.json").read_text())
    assert config["frozen_parts"]["language_model"]["source"] == str(tmp_path / "moved")
    for wrong, message in (
        (["--part", "segmenter"], "is not of the form NAME=PATH"),
        (["--part", "eye=x"], "there is no frozen part 'eye'; the parts are language_model"),
        (["--part", "language_model=/nowhere"], "language_model.name_or_path '/nowhere' is no"),
        (["--metrics", str(out / "config.json")], "has no 'runs'; give the metrics.json"),
    ):
        assert cli.main(["export", str(runs / "instruction"), str(out), *wrong]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1


def test_a_folder_is_pushed_once_it_is_written(runs, tmp_path, monkeypatch, capsys):
    calls = []

    def note(folder, repository, *, private):
        VideoReasoner.from_pretrained(folder)
        calls.append((repository, private))
        return "https://hub/commit"

    monkeypatch.setattr(hub, "upload", note)
    out = str(tmp_path / "out")
    for more in ([], ["--public"]):
        arguments = ["export", str(runs / "instruction"), out, "--push", "a/b", *more]
        assert cli.main(arguments) == 0
        assert capsys.readouterr().out.endswith("https://hub/commit\n")
    assert calls == [("a/b", True), ("a/b", False)]


def copy_of_run(runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs / "instruction", folder, symlinks=True)
    return folder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no such place", "there is no run folder and no checkpoint"),
        ("no checkpoint", "holds no complete checkpoint"),
        ("half written", "cannot be read|truncated|damaged"),
        ("not ours", r"not one of experiments\.fit"),
        ("a key more", r"unexpected reasoner\.fusion\.extra"),
        ("a key less", r"missing reasoner\.fusion\.queries"),
        ("out taken", "is there and is no reasoner folder"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(runs, tmp_path, capsys, damage, message):
    run = copy_of_run(runs, tmp_path)
    exported_from = newest = run / "checkpoints" / "step-00000004.ckpt"
    content = torch.load(newest, weights_only=True)
    if damage == "no such place":
        exported_from = tmp_path / "nowhere"
    elif damage == "no checkpoint":
        shutil.rmtree(run / "checkpoints")
        exported_from = run
    elif damage == "half written":
        newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    elif damage == "not ours":
        torch.save({"state_dict": {"model.weight": torch.zeros(2)}}, newest)
    elif damage == "a key more":
        content["state_dict"]["reasoner.fusion.extra"] = torch.zeros(1)
        write_file(content, newest)
    elif damage == "a key less":
        del content["state_dict"]["reasoner.fusion.queries"]
        write_file(content, newest)
    else:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").touch()
    assert cli.main(["export", str(exported_from), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(f"vidreason export: .*({message}).*\n", error), error
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_run_becomes_a_folder_that_may_ship(runs, tmp_path, capsys):
    table = tmp_path / "table.md"
    table.write_text("| | next event |\n| --- | ---: |\n| full model | 61.0 |\n")
    out = tmp_path / "out"
    options = ["--dtype", "bfloat16", "--licence", "CC0-1.0", "--metrics", str(table)]
    assert cli.main(["export", str(runs / "instruction"), str(out), *options]) == 0
    card = (out / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc0-1.0"
    assert table.read_text().strip() in card
    assert "| fusion core and adapters | trained | this folder | CC0-1.0 |" in card
    exported = VideoReasoner.from_pretrained(out).state_dict()
    for name, value in trained_values(runs / "instruction" / "checkpoints" / "last.ckpt").items():
        assert torch.equal(exported[name], value.bfloat16().float()), name
    assert cli.main(["export", str(runs / "instruction"), str(out), "--merged", *options]) == 2
    assert "the form is 'merged'" in capsys.readouterr().err
