"""Weight files: every released format, every kind of damage, and nothing in a file is ever run."""

import argparse
import functools
import io
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import (
    write_lightning_ckpt,
    write_official_pth,
    write_safetensors,
    write_shards,
)
from torch import nn

from vidreason.perception.weights import (
    hash_file,
    hash_weights,
    load_weights,
    local_folder,
    open_weights,
)


class Part(nn.Module):
    """Something to load: a matrix, a norm, and a table."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.layer = nn.Linear(3, 5)
        self.encoder.norm = nn.LayerNorm(5)
        self.encoder.table = nn.Parameter(torch.zeros(4, 5))


def random_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.randn(tensor.shape, generator=generator)
        for key, tensor in Part().state_dict().items()
    }


def write_flat(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    torch.save(weights, path)
    return path


FORMATS = {
    "model.safetensors": write_safetensors,
    "shards": write_shards,
    "official.pth": write_official_pth,
    "module.pth": functools.partial(write_official_pth, entry="module"),
    "lightning.ckpt": write_lightning_ckpt,
    "flat.pth": write_flat,
}
every_format = pytest.mark.parametrize("name", FORMATS)


def load(path: Path | str, **options) -> Part:
    with torch.device("meta"):
        part = Part()
    load_weights(part, str(path), dropped_prefixes=("caption_decoder.",), **options)
    return part


@every_format
def test_every_format_gives_its_tensors_exactly(tmp_path, name):
    weights = random_weights()
    loaded = load(FORMATS[name](tmp_path / name, weights)).state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


def test_dtypes_views_and_parameters_of_a_pickled_file(tmp_path):
    base = torch.arange(24, dtype=torch.float32)
    weights = {
        "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
        "brain": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "long": torch.tensor([[1], [2**40]]),
        "truth": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "part": base[4:10].view(2, 3),
        "turned": base.view(4, 6).T,
        "parameter": nn.Parameter(torch.ones(2)),
    }
    torch.save(weights, tmp_path / "views.pth")
    with open_weights(str(tmp_path / "views.pth")) as file:
        assert file.shapes == {key: tuple(tensor.shape) for key, tensor in weights.items()}
        for key, tensor in weights.items():
            read = file.read(key)
            assert read.dtype == tensor.dtype
            assert torch.equal(read, tensor)
        # A part of a larger tensor does not keep the rest in memory.
        assert file.read("part").untyped_storage().nbytes() == 6 * 4


def test_tensors_take_the_dtype_of_the_module(tmp_path):
    path = write_safetensors(tmp_path / "a.safetensors", random_weights())
    with torch.device("meta"):
        part = Part().to(torch.bfloat16)
    load_weights(part, str(path))
    assert {p.dtype for p in part.parameters()} == {torch.bfloat16}
    assert torch.equal(part.encoder.table, random_weights()["encoder.table"].bfloat16())


CHANGES = {
    "missing": (lambda w: w.pop("encoder.norm.bias"), "missing encoder.norm.bias"),
    "extra": (lambda w: w.update({"encoder.extra": torch.zeros(1)}), "unexpected encoder.extra"),
    "shape": (
        lambda w: w.update({"encoder.table": torch.zeros(4, 6)}),
        r"encoder.table has shape \(4, 6\) instead of \(4, 5\)",
    ),
}


NUMBERS = {
    "integers": (lambda t: t.long(), "encoder.table holds numbers of type int64"),
    "bytes": (lambda t: t.to(torch.int8), "encoder.table holds numbers of type int8"),
    "truths": (lambda t: t > 0, "encoder.table holds numbers of type bool"),
    "nan": (lambda t: t.fill_(float("nan")), "encoder.table hold values that are infinite or not"),
    "infinite": (lambda t: t / 0, "encoder.table hold values that are infinite or not"),
}


@every_format
@pytest.mark.parametrize("change", NUMBERS)
def test_numbers_that_are_no_weights_are_named(tmp_path, name, change):
    weights = random_weights()
    turn, message = NUMBERS[change]
    weights["encoder.table"] = turn(weights["encoder.table"])
    with pytest.raises(ValueError, match=message):
        load(FORMATS[name](tmp_path / name, weights))


def test_complex_and_eight_bit_numbers_of_safetensors(tmp_path):
    weights = random_weights()
    small = weights["encoder.table"].to(torch.float8_e4m3fn)
    loaded = load(write_safetensors(tmp_path / "a.safetensors", weights | {"encoder.table": small}))
    assert torch.equal(loaded.encoder.table, small.float())
    weights["encoder.table"] = weights["encoder.table"].to(torch.complex64)
    with pytest.raises(ValueError, match=r"table holds numbers of type complex64"):
        load(write_safetensors(tmp_path / "b.safetensors", weights))


def test_counters_stay_integers(tmp_path):
    norm = nn.BatchNorm1d(2)
    norm.num_batches_tracked += 5
    torch.save(norm.state_dict(), tmp_path / "norm.pth")
    other = nn.BatchNorm1d(2)
    load_weights(other, str(tmp_path / "norm.pth"))
    assert other.num_batches_tracked == 5


@every_format
@pytest.mark.parametrize("change", CHANGES)
def test_keys_and_shapes_that_do_not_fit_are_named(tmp_path, name, change):
    weights = random_weights()
    apply, message = CHANGES[change]
    apply(weights)
    with pytest.raises(ValueError, match=rf"do not fit Part \(1 keys\): {message}\. Check"):
        load(FORMATS[name](tmp_path / name, weights))


def test_at_most_four_keys_are_named(tmp_path):
    weights = random_weights() | {f"encoder.more{i}": torch.zeros(1) for i in range(6)}
    with pytest.raises(ValueError, match=r"\(6 keys\).*more0; .*more1; .*more2; .*more3; \.\.\."):
        load(write_flat(tmp_path / "many.pth", weights))


@every_format
def test_another_prefix_is_shown(tmp_path, name):
    weights = {f"backbone.{key}": tensor for key, tensor in random_weights().items()}
    with pytest.raises(
        ValueError,
        match=r"are not those of Part.*expected keys like 'encoder.table', found 'backbone.encoder",
    ):
        load(FORMATS[name](tmp_path / name, weights))


@every_format
@pytest.mark.parametrize("share", [0.5, 0.98])
def test_truncated_files_say_so(tmp_path, name, share):
    path = FORMATS[name](tmp_path / name, random_weights())
    file = sorted(path.glob("*.safetensors"))[-1] if path.is_dir() else path
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"truncated or damaged|neither safetensors"):
        load(path)


def test_a_flipped_byte_in_a_pickled_file_is_noticed(tmp_path):
    path = write_official_pth(tmp_path / "a.pth", random_weights())
    content = bytearray(path.read_bytes())
    content[content.index(random_weights()["encoder.table"].numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated or damaged"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "text, not weights.*DOCTYPE"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS.*git lfs pull"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "neither safetensors|truncated or damaged"),
    ],
)
@pytest.mark.parametrize("name", ["file.safetensors", "file.pth"])
def test_files_that_are_no_weights_are_named_for_what_they_are(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / name)


def test_missing_files_and_odd_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*none\.pth"):
        load(tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        load(tmp_path)
    shards = write_shards(tmp_path / "shards", random_weights())
    (shards / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"there is no file .*00002-of-00002"):
        load(shards)
    (shards / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="not an index of shards"):
        load(shards)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "expected a dictionary, found list"),
        ({"epoch": 3, "best": 0.5}, r"no tensors in the dictionary.*'epoch', 'best'"),
        ({"model": random_weights(), "module": random_weights()}, "tensors in each of"),
        ({"model": random_weights() | {"step": 3}}, "'step' is not the name of a tensor"),
        ({"model": random_weights() | {5: torch.ones(1)}}, "5 is not the name of a tensor"),
    ],
)
def test_dictionaries_without_one_state_dict_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "odd.pth")


class Reduced:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (os.system, "touch {}"),
        (eval, "open({!r}, 'w')"),
        (exec, "open({!r}, 'w')"),
        (open, "{}"),
    ],
)
def test_a_pickle_that_asks_to_run_something_is_refused_and_not_run(tmp_path, function, argument):
    marker = tmp_path / "was-run"
    mode = ("w",) if function is open else ()
    attack = Reduced(function, argument.format(str(marker)), *mode)
    path = write_flat(tmp_path / "evil.pth", random_weights() | {"encoder.attack": attack})
    with pytest.raises(ValueError, match=r"evil\.pth.*asks to run") as caught:
        load(path)
    assert function.__name__ in str(caught.value)
    assert "nothing of it was run" in str(caught.value)
    assert not marker.exists()


def test_an_attack_beside_the_weights_is_refused_as_well(tmp_path):
    content = {"model": random_weights(), "config": Reduced(os.system, f"touch {tmp_path}/run")}
    torch.save(content, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="asks to run"):
        load(tmp_path / "evil.pth")
    assert not (tmp_path / "run").exists()


def test_foreign_names_are_never_imported_nor_called(tmp_path, monkeypatch):
    """A module that would leave a trace on import, and a function in it that would on a call."""
    (tmp_path / "foreign_module.py").write_text(
        "import pathlib\n"
        f"pathlib.Path({str(tmp_path)!r}, 'imported').touch()\n"
        f"def run(*_): pathlib.Path({str(tmp_path)!r}, 'called').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import foreign_module

    partial = functools.partial(foreign_module.run, 1)
    content = {"model": random_weights(), "hooks": [Reduced(foreign_module.run, 1), partial]}
    torch.save(content, tmp_path / "foreign.pth")
    del sys.modules["foreign_module"]
    for trace in ("imported", "called"):
        (tmp_path / trace).unlink(missing_ok=True)
    load(tmp_path / "foreign.pth")
    assert "foreign_module" not in sys.modules
    assert not (tmp_path / "imported").exists()
    assert not (tmp_path / "called").exists()


def test_what_training_leaves_in_a_checkpoint_does_no_harm(tmp_path):
    """Paths, sets, bound methods, byte streams, numpy numbers, namespaces."""
    content = {
        "model": random_weights(),
        "args": argparse.Namespace(output=Path("runs"), names={"a"}, stream=io.BytesIO(b"x")),
        "hook": "text".upper,
        "best": np.float64(0.5),
        "random_state": np.random.RandomState(0).get_state(),
    }
    torch.save(content, tmp_path / "run.pth")
    weights = random_weights()
    assert torch.equal(load(tmp_path / "run.pth").encoder.table, weights["encoder.table"])


def replace_pickle(path: Path, content: bytes) -> None:
    """Put another pickle into a file of torch.save."""
    changed = path.with_suffix(".changed")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, content if entry.endswith("data.pkl") else old.read(entry))
    shutil.move(changed, path)


@pytest.mark.parametrize(
    "content",
    [
        b"not a pickle",
        pickle.dumps({"a": 1})[:-3],
        # BUILD on the stand-in of torch's function: a pickle must not change it for later files.
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x09\x00\x00\x00_functionK\x01sb.",
    ],
    ids=["no pickle", "cut off", "alters a function"],
)
def test_damaged_pickles_are_refused(tmp_path, content):
    path = write_flat(tmp_path / "a.pth", random_weights())
    replace_pickle(path, content)
    with pytest.raises(ValueError, match=r"a\.pth"):
        load(path)
    assert load(write_flat(tmp_path / "b.pth", random_weights())).encoder.table.shape == (4, 5)


def test_a_tensor_that_reaches_beyond_its_bytes_is_refused(tmp_path):
    path = write_flat(tmp_path / "a.pth", {"encoder.table": torch.zeros(4, 5)})
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        content = archive.read(name)
    assert content.count(b"K\x04K\x05\x86") == 1
    replace_pickle(path, content.replace(b"K\x04K\x05\x86", b"K\x40K\x50\x86"))
    with open_weights(str(path)) as file, pytest.raises(ValueError, match="truncated or damaged"):
        file.read("encoder.table")


def test_hashes_name_contents_and_not_locations(tmp_path):
    first = write_shards(tmp_path / "first", random_weights())
    (first / "config.json").write_text("{}")
    before = hash_weights(str(first))
    second = tmp_path / "second"
    shutil.copytree(first, second)
    (second / "README.md").write_text("words")
    assert hash_weights(str(second)) == before
    (second / "config.json").write_text('{"num_layers": 3}')
    assert hash_weights(str(second)) != before
    shutil.copy(first / "config.json", second / "config.json")
    write_safetensors(second / "model-00002-of-00002.safetensors", {"other": torch.ones(1)})
    assert hash_weights(str(second)) != before

    file = first / "model-00001-of-00002.safetensors"
    assert hash_weights(str(file)) == hash_file(str(file))
    seen = []
    hash_weights(str(first), lambda path: seen.append(Path(path).name) or "0")
    assert seen == sorted(["config.json", *(shard.name for shard in first.glob("*.safetensors"))])


def test_what_is_neither_here_nor_on_the_hub_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="no repository of that name"):
        local_folder("nobody/nothing")
    with pytest.raises(ValueError, match=r"no file or folder 'weights/none\.pth'"):
        hash_weights("weights/none.pth")
    with pytest.raises(ValueError, match="has no file of weights"):
        hash_weights(str(tmp_path))
