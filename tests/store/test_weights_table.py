"""Weights are known by what was recorded of them, and read again once they have changed."""

import shutil
from pathlib import Path

import pytest

from vidreason.perception.weights import hash_weights
from vidreason.store.weights_table import WeightsTable


def test_absent_weights_have_the_hash_that_was_recorded(tmp_path, monkeypatch):
    file = tmp_path / "encoder.safetensors"
    file.write_bytes(b"one")
    expected = hash_weights(str(file))
    assert WeightsTable(tmp_path / "weights").content_hash(str(file)) == expected
    file.unlink()
    table = WeightsTable(tmp_path / "weights")
    assert table.content_hash(str(file)) == expected
    with pytest.raises(ValueError, match=r"^weights: there is no file or folder '.*encoder\.saf"):
        table.present_hash(str(file))
    file.write_bytes(b"another")
    assert table.content_hash(str(file)) == hash_weights(str(file)) != expected
    file.unlink()
    assert table.content_hash(str(file)) != expected  # what was there last


def test_weights_are_hashed_where_nothing_can_be_recorded(tmp_path, monkeypatch, caplog):
    file = tmp_path / "encoder.safetensors"
    file.write_bytes(b"one")

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    for _ in range(2):
        table = WeightsTable(tmp_path / "weights")
        assert table.content_hash(str(file)) == hash_weights(str(file))
    assert not (tmp_path / "weights").exists()
    assert len(caplog.records) == 1


def test_a_file_is_read_once_for_its_hash(tmp_path, monkeypatch):
    file = tmp_path / "encoder.safetensors"
    file.write_bytes(b"one")
    first = WeightsTable(tmp_path / "weights").content_hash(str(file))
    monkeypatch.setattr("vidreason.video.file_hashes.hash_media", None)
    assert WeightsTable(tmp_path / "weights").content_hash(str(file)) == first


def test_a_folder_or_a_repository_that_is_not_here_is_not_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "someone" / "encoder"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"one")
    (folder / "config.json").write_text("{}")
    table = WeightsTable(tmp_path / "weights")
    expected = table.content_hash("someone/encoder")
    assert expected == hash_weights(str(folder))
    # Only the configuration was copied, as for the sizes of an encoder.
    (folder / "model.safetensors").unlink()
    assert table.content_hash("someone/encoder") == expected
    shutil.rmtree(folder)

    def refuse(*arguments, **options):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    assert table.content_hash("someone/encoder") == expected  # now the name of a repository


def test_weights_that_were_never_there_are_an_error_that_names_what_is_known(tmp_path):
    table = WeightsTable(tmp_path / "store" / "weights")
    message = r"no file or folder '/x/none\.pth'; nor does the store in '.*/store' .*\(it knows "
    with pytest.raises(ValueError, match=message + r"none\)"):
        table.content_hash("/x/none.pth")
    for name in ("b.pth", "a.pth"):
        (tmp_path / name).write_bytes(b"one")
        table.content_hash(str(tmp_path / name))
    with pytest.raises(ValueError, match=message + r"'.*/a\.pth', '.*/b\.pth'\)"):
        table.content_hash("/x/none.pth")
