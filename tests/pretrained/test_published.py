"""Before a folder is published, it is said what it tells of the machine that made it."""

import json

import pytest
import torch

from vidreason.microworld import parts
from vidreason.model import VideoReasoner
from vidreason.pretrained.published import published_copy, told_by


def test_local_paths_and_foreign_files_are_named(make_reasoner, tmp_path, language_models):
    folder = tmp_path / "reasoner"
    make_reasoner().save_pretrained(folder, "trained")
    (folder / "notes.txt").write_text("mine")
    lines = told_by(folder)
    base = language_models["llama"]
    assert f"config.json: frozen_parts.language_model.source is the local path {base!r}" in lines
    assert (
        "language_model/adapter_config.json: base_model_name_or_path is the local path "
        f"{base!r}" in lines
    )
    assert any(line.startswith("config.json: frozen_parts.video_encoder.source") for line in lines)
    assert any(line.startswith("README.md: the local path") for line in lines)
    assert "notes.txt: a file that is no part of a reasoner folder" in lines


def test_repositories_and_parts_of_the_package_are_no_paths(make_reasoner, tmp_path):
    folder = tmp_path / "reasoner"
    make_reasoner().save_pretrained(folder, "merged")
    path = folder / "config.json"
    values = json.loads(path.read_text())
    for part in values["frozen_parts"].values():
        part["source"] = "org/name"
    values["frozen_parts"]["segmenter"]["source"] = "vidreason:microworld/parts/x.safetensors"
    path.write_text(json.dumps(values))
    (folder / "README.md").write_text("of `org/name`, https://huggingface.co/org/name")
    assert told_by(folder) == []


@pytest.mark.parametrize("form", ["trained", "merged"])
def test_a_published_copy_names_parts_by_their_content(
    make_reasoner, tmp_path, language_models, form
):
    """It tells no path of this machine, and loads where somebody says where the parts are."""
    reasoner = make_reasoner()
    folder = tmp_path / "reasoner"
    reasoner.save_pretrained(folder, form)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    paths = {
        "video_encoder": str(parts.ENCODER_WEIGHTS),
        "segmenter": str(parts.SEGMENTER_WEIGHTS),
    }
    if form == "trained":
        paths["language_model"] = language_models["llama"]
    with published_copy(folder) as copy:
        assert told_by(copy) == []
        texts = [path.read_text() for path in copy.rglob("*") if path.suffix in (".json", ".md")]
        assert not any(
            str(tmp_path) in text or paths.get("language_model", "\0") in text for text in texts
        )
        with pytest.raises(ValueError, match=r"known by its content hash \w+ only; .*--part"):
            VideoReasoner.from_pretrained(copy)
        loaded = VideoReasoner.from_pretrained(copy, frozen_parts=paths)
        assert torch.equal(loaded.fusion.queries, reasoner.fusion.queries)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
