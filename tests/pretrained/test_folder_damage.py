"""Damage to a folder is named in a message of its own, and nothing is loaded."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vidreason.model import VideoReasoner

ADAPTER = "language_model/adapter_model.safetensors"
MERGED = "language_model/model.safetensors"


@pytest.fixture
def save(folders, tmp_path):
    return lambda form: Path(shutil.copytree(folders[form], tmp_path / "reasoner"))


def refused(folder, message):
    with pytest.raises(ValueError, match=message) as caught:
        VideoReasoner.from_pretrained(folder)
    assert len(str(caught.value).splitlines()) == 1


TRAINED_FILES = [
    *("config.json", "fusion.safetensors", "generation_config.json", ADAPTER),
    *("language_model/adapter_config.json", "language_model/tokenizer_config.json"),
]


@pytest.mark.parametrize(
    ("form", "name"),
    [*(("trained", name) for name in TRAINED_FILES), ("merged", "language_model/config.json")],
)
def test_a_missing_file_is_named(save, form, name):
    folder = save(form)
    (folder / name).unlink()
    refused(folder, f"it has no {name}")


def test_a_merged_model_without_weights_is_refused(save):
    folder = save("merged")
    (folder / MERGED).unlink()
    refused(folder, r"language_model' is a folder and could not be loaded .*model\.safetensors")


KEYS = {
    "fusion.safetensors": ("trained", "queries", "FusionCore"),
    ADAPTER: (
        "trained",
        "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight",
        "the language model's adapters",
    ),
    MERGED: ("merged", "model.norm.weight", "config.json"),
}


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
@pytest.mark.parametrize("name", KEYS)
def test_keys_and_shapes_must_be_those_of_the_configuration(save, name, change):
    form, key, owner = KEYS[name]
    folder = save(form)
    weights = load_file(folder / name)
    if change == "missing":
        del weights[key]
    elif change == "unexpected":
        key = "extra.weight"
        weights[key] = torch.zeros(1)
    else:
        weights[key] = torch.zeros(5, 5)
    save_file(weights, folder / name, metadata={"format": "pt"})
    pattern = rf"do(es)? not fit.*{owner}.*" if form == "trained" else r"its weights do not fit.*"
    refused(folder, pattern + key.replace(".", r"\."))


@pytest.mark.parametrize("name", ["fusion.safetensors", ADAPTER, MERGED])
@pytest.mark.parametrize("length", [-10, 30])
def test_truncated_weights_are_refused(save, name, length):
    folder = save(KEYS[name][0])
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:length])
    refused(folder, "truncated or damaged")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 1}, "has format version 1, this program reads version 2; export it"),
        ({"form": "whole"}, r"config\.json: form: "),
        ({"surplus": 1}, r"config\.json: .*surplus"),
        ({"visual_dim": None}, r"config\.json: .*visual_dim"),
        ({"visual_dim": 25}, r"fusion\.safetensors.*do not fit FusionCore"),
        ({"format_version": None}, "has no format_version and form"),
    ],
)
def test_another_config_is_refused(save, change, message):
    folder = save("trained")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused(folder, message)


def test_a_missing_field_and_a_cut_file_are_refused(save):
    folder = save("trained")
    path = folder / "config.json"
    values = json.loads(path.read_text())
    del values["visual_dim"]
    path.write_text(json.dumps(values))
    refused(folder, r"config\.json: .*visual_dim")
    path.write_text(json.dumps(values)[:-20])
    refused(folder, r"config\.json is damaged")
    path.write_text("[]")
    refused(folder, r"config\.json is damaged: it is no JSON object")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lora_alpha": 16}, "lora_alpha is 16 instead of 8"),
        ({"r": 2}, "r is 2 instead of 4"),
        ({"use_rslora": True}, "use_rslora is True instead of False"),
        ({"target_modules": ["q_proj"]}, "target_modules is {'q_proj'} instead of"),
        ({"peft_type": "MAGIC"}, r"adapter_config\.json cannot be read"),
    ],
)
def test_other_adapters_than_the_config_says_are_refused(save, change, message):
    """Some would load without a word: the scale of an adapter is in no shape."""
    folder = save("trained")
    path = folder / "language_model" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused(folder, message)


def test_a_folder_that_is_none_of_ours_is_refused(language_models, tmp_path):
    refused(
        language_models["llama"], "is no reasoner folder: its config.json has no format_version"
    )
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"is no reasoner folder: it has no config\.json")


def test_a_file_of_another_dtype_is_not_taken_for_the_same(save):
    """Half precision has other values; a file that someone converted keeps the configured type."""
    folder = save("trained")
    half = {name: value.half() for name, value in load_file(folder / "fusion.safetensors").items()}
    save_file(half, folder / "fusion.safetensors")
    refused(folder, r"take its line out of 'weights' in config\.json")
    config = json.loads((folder / "config.json").read_text())
    del config["weights"]["fusion.safetensors"]
    (folder / "config.json").write_text(json.dumps(config))
    loaded = VideoReasoner.from_pretrained(folder)
    assert loaded.fusion.queries.dtype == torch.float32
    assert torch.equal(loaded.fusion.queries, half["queries"].float())


@pytest.mark.parametrize("form", ["trained", "merged"])
def test_a_copy_elsewhere_loads(make_reasoner, tmp_path, form):
    """The other tests damage such a copy: it loads as it is."""
    folder = tmp_path / "reasoner"
    make_reasoner().save_pretrained(folder, form)
    shutil.copytree(folder, tmp_path / "far" / "away")
    shutil.rmtree(folder)
    VideoReasoner.from_pretrained(tmp_path / "far" / "away")


@pytest.mark.parametrize(
    ("form", "name"), [("trained", "fusion.safetensors"), ("trained", ADAPTER), ("merged", MERGED)]
)
def test_weights_that_are_not_those_that_were_written(save, form, name):
    folder = save(form)
    content = bytearray((folder / name).read_bytes())
    content[-200:-100] = bytes(100)
    (folder / name).write_bytes(content)
    refused(folder, rf"{name}' is damaged, or was exchanged")


@pytest.mark.parametrize("form", ["trained", "merged"])
@pytest.mark.parametrize("name", ["fusion.queries", "lora_B"])
def test_what_is_not_finite_is_not_exported(make_reasoner, tmp_path, form, name):
    reasoner = make_reasoner()
    reasoner.save_pretrained(tmp_path / "reasoner", form)
    good = (tmp_path / "reasoner" / "fusion.safetensors").read_bytes()
    values = dict(reasoner.named_parameters())
    with torch.no_grad():
        next(value for key, value in values.items() if name in key)[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"is not written: .* infinite or not a number") as error:
        reasoner.save_pretrained(tmp_path / "reasoner", form)
    assert "\n" not in str(error.value)
    assert (tmp_path / "reasoner" / "fusion.safetensors").read_bytes() == good
