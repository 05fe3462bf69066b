"""Search for a folder's weights, and the types of their numbers before any is read."""

import json

import pytest
import torch
from golden_weights import write_official_pth, write_safetensors, write_shards

from vidreason.perception.weight_files import weight_files
from vidreason.perception.weights import open_weights


@pytest.mark.parametrize("write", [write_safetensors, write_shards, write_official_pth])
def test_types_of_numbers_are_known_before_they_are_read(tmp_path, write):
    types = {
        **{"a": torch.float32, "b": torch.bfloat16, "c": torch.float16, "d": torch.int8},
        **{"e": torch.int64, "f": torch.bool, "g": torch.uint8},
    }
    tensors = {key: torch.ones(2).to(dtype) for key, dtype in types.items()}
    path = tmp_path / ("a.safetensors" if write is write_safetensors else "weights")
    with open_weights(str(write(path, tensors))) as file:
        stored = {key: file.type_of(key).lower() for key in types}
    names = {
        **{"a": ("f32", "float32"), "b": ("bf16", "bfloat16"), "c": ("f16", "float16")},
        **{"d": ("i8", "int8"), "e": ("i64", "int64"), "f": ("bool",), "g": ("u8", "uint8")},
    }
    assert all(stored[key] in names[key] for key in types)


def test_an_index_counts_before_a_single_file_and_safetensors_before_pickles(tmp_path):
    single = ("model.safetensors", "pytorch_model.bin")
    for name in single:
        (tmp_path / name).touch()
        (tmp_path / f"{name}.index.json").write_text(
            json.dumps({"weight_map": {"a": f"of-{name}"}})
        )
    for name in single:
        assert weight_files(tmp_path).names == [f"of-{name}"]
        (tmp_path / f"{name}.index.json").unlink()
    for name in single:
        assert weight_files(tmp_path).names == [name]
        (tmp_path / name).unlink()
    assert weight_files(tmp_path).names == []


def test_only_the_shards_of_wanted_keys_are_named(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.x": "2", "a.y": "1", "b.x": "3"}}))
    assert weight_files(tmp_path, ["a."]).names == ["1", "2"]
    assert weight_files(tmp_path, ["c."]).names == []
    # Also where only others are elsewhere: the index is not to be trusted.
    index.write_text(json.dumps({"weight_map": {"a.x": "2", "b.x": "../3"}}))
    with pytest.raises(ValueError, match=r"weight_map puts 'b\.x' into '\.\./3', which is no file"):
        weight_files(tmp_path, ["a."])
