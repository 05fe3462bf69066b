"""``python -m experiments.checkpoint``: what it prints, and every conversion it makes."""

import re

import pytest
import torch
from safetensors import safe_open

from experiments.checkpoint.__main__ import main
from experiments.experiment_config import ExperimentConfig
from experiments.fit.run import fit
from vidreason.config import merge_config
from vidreason.pretrained.frozen_parts import content_hash
from vidreason.training.checkpoint_damage import folder_digests, write_sums
from vidreason.training.checkpoint_files import read_checkpoint


@pytest.fixture(scope="module")
def run_dir(tiny_experiment, tmp_path_factory):
    """A stage 2 run of 3 steps."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    overrides = [f"run_dir={folder}", "trainer.stop_after_steps=3"]
    fit(merge_config(ExperimentConfig, [str(tiny_experiment)], overrides))
    return folder


@pytest.fixture
def newest(run_dir):
    return run_dir / "checkpoints" / "step-00000003.ckpt"


def assert_equal(first, second):
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert_equal(value, second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for value, other in zip(first, second, strict=True):
            assert_equal(value, other)
    else:
        assert first == second


def test_inspect_says_what_a_checkpoint_is_of(
    run_dir, tiny_experiment, tiny_language_model_folder, capsys
):
    given = ["--config", str(tiny_experiment), "optimizer.learning_rate=0.5"]
    assert main(["inspect", str(run_dir), "--tensors", *given]) == 0
    text = capsys.readouterr().out
    assert re.search(r"step-00000003\.ckpt: file of .*, format 3\n", text)
    assert "stage instruction, step 3, epoch 0\n" in text
    assert f"frozen language_model: {content_hash(tiny_language_model_folder)}\n" in text
    assert re.search(r"data position: epoch 0, samples_consumed 12,", text)  # 3 steps of 4
    assert re.search(r"lora:    28 tensors, +2,048 values, +8\.192 kB", text)
    assert re.search(r"lora, optimizer:    84 tensors, +4,124 values", text)
    assert (
        "reasoner.fusion.queries  (1, 2, 16)  float32" in text or "fusion.queries  (2, 16)" in text
    )
    differing = text.split("the given configuration differs in ")[1]
    assert "  optimizer.learning_rate: 0.01 -> 0.5\n" in differing
    assert "  trainer.stop_after_steps: 3 -> None\n" in differing
    assert "reasoner." not in differing


def test_a_file_becomes_a_folder_and_a_file_again(newest, tmp_path, capsys):
    folder, file = tmp_path / "folder.ckpt", tmp_path / "file.ckpt"
    assert main(["convert", str(newest), str(folder), "--to", "distributed"]) == 0
    assert (folder / ".metadata").is_file()
    assert_equal(read_checkpoint(newest), read_checkpoint(folder))
    assert main(["inspect", str(folder)]) == 0
    assert "distributed folder" in capsys.readouterr().out
    assert main(["consolidate", str(folder), str(file)]) == 0
    assert_equal(torch.load(newest, weights_only=True), torch.load(file, weights_only=True))


def test_safetensors_hold_what_was_trained_by_the_models_names(newest, tmp_path):
    out = tmp_path / "trained.safetensors"
    assert main(["convert", str(newest), str(out), "--to", "safetensors"]) == 0
    state = read_checkpoint(newest)["state_dict"]
    with safe_open(out, framework="pt") as file:
        assert {f"reasoner.{name}" for name in file.keys()} == state.keys()  # noqa: SIM118
        for name in file.keys():  # noqa: SIM118
            assert torch.equal(file.get_tensor(name), state[f"reasoner.{name}"])
        assert len(file.metadata()["frozen_language_model"]) == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "{tmp}/nowhere"], "there is no run folder and no checkpoint"),
        (["convert", "{newest}", "{tmp}"], "is there already; name another place"),
        (["consolidate", "{newest}", "{tmp}/out"], "is one file already"),
        (["convert", "{tmp}/other.ckpt", "{tmp}/out"], "damaged, or not one of experiments.fit"),
        (["inspect", "{tmp}/cut.ckpt"], "cannot be read: it is damaged"),
        (["consolidate", "{tmp}/deepspeed", "{tmp}/out"], "only DeepSpeed reads: pip install"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(newest, tmp_path, capsys, arguments, message):
    torch.save({"state_dict": {"model.a": torch.ones(2)}}, tmp_path / "other.ckpt")
    (tmp_path / "cut.ckpt").write_bytes(newest.read_bytes()[:5000])
    (tmp_path / "deepspeed").mkdir()
    (tmp_path / "deepspeed" / "latest").write_text("checkpoint")
    write_sums(tmp_path / "deepspeed", folder_digests(tmp_path / "deepspeed", ["latest"]))
    command = [text.format(tmp=tmp_path, newest=newest) for text in arguments]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_wrong_command_is_explained(capsys):
    for arguments in ([], ["inspekt", "x"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "must be one of inspect, consolidate, convert" in capsys.readouterr().err
