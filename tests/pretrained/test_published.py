"""Before a folder is published, it is said what it tells of the machine that made it."""

import json

from vidreason.pretrained.published import told_by


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
