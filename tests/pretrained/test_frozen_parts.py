import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vidreason.microworld import parts
from vidreason.model import VideoReasoner
from vidreason.perception import weights as weights_module
from vidreason.pretrained import frozen_parts
from vidreason.video import file_hashes


@pytest.fixture
def saved(make_reasoner, language_models, tmp_path):
    """A folder, and where its three frozen parts are."""
    language_model = tmp_path / "language_model"
    shutil.copytree(language_models["llama"], language_model)
    reasoner = make_reasoner(folder=str(language_model))
    reasoner.save_pretrained(tmp_path / "reasoner")
    return tmp_path / "reasoner", {
        "language_model": language_model,
        "video_encoder": Path(reasoner.perceiver.video_encoder.weights),
        "segmenter": Path(reasoner.perceiver.segmenter.weights),
    }


def change_weights(path):
    file = path / "model.safetensors" if path.is_dir() else path
    tensors = load_file(file)
    name = min(tensors)
    tensors[name] = tensors[name] + 1
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("part", frozen_parts.PARTS)
def test_a_changed_part_is_refused_by_name_hashes_and_remedy(saved, part):
    folder, locations = saved
    expected = json.loads((folder / "config.json").read_text())["frozen_parts"][part]["sha256"]
    change_weights(locations[part])
    actual = frozen_parts.content_hash(str(locations[part]))
    assert actual != expected
    with pytest.raises(
        ValueError,
        match=f"its frozen part {part} at '{locations[part]}' is not the one .* expected the "
        f"content hash {expected}, found {actual}; give the path .*--part {part}=PATH",
    ):
        VideoReasoner.from_pretrained(folder)


def test_a_language_model_of_another_configuration_is_another_one(saved):
    folder, locations = saved
    path = locations["language_model"] / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    with pytest.raises(ValueError, match="frozen part language_model"):
        VideoReasoner.from_pretrained(folder)


@pytest.mark.parametrize("part", frozen_parts.PARTS)
def test_a_part_that_moved_is_found_where_one_says(saved, tmp_path, part):
    folder, locations = saved
    elsewhere = tmp_path / "elsewhere" / locations[part].name
    elsewhere.parent.mkdir()
    shutil.move(locations[part], elsewhere)
    with pytest.raises(ValueError, match=f"its frozen part {part} is not at '{locations[part]}'"):
        VideoReasoner.from_pretrained(folder)
    moved = {part: str(elsewhere)}
    loaded = VideoReasoner.from_pretrained(folder, frozen_parts=moved)
    used = {
        "language_model": loaded.config.language_model.name_or_path,
        "video_encoder": loaded.perceiver.video_encoder.weights,
        "segmenter": loaded.perceiver.segmenter.weights,
    }
    assert used == {
        name: str(location) for name, location in (locations | {part: elsewhere}).items()
    }
    # Saved again, it refers to the new place.
    loaded.save_pretrained(folder)
    VideoReasoner.from_pretrained(folder)
    change_weights(elsewhere)
    with pytest.raises(ValueError, match=f"part {part} at '{elsewhere}' is not the one"):
        VideoReasoner.from_pretrained(folder, frozen_parts=moved)


def test_a_part_that_is_not_referred_to_cannot_be_elsewhere(saved, make_reasoner, tmp_path):
    folder, locations = saved
    with pytest.raises(ValueError, match=r"refers to no frozen part 'encoder'; it refers to vid"):
        VideoReasoner.from_pretrained(folder, frozen_parts={"encoder": "x"})
    make_reasoner().save_pretrained(tmp_path / "merged", "merged")
    with pytest.raises(ValueError, match="refers to no frozen part 'language_model'"):
        VideoReasoner.from_pretrained(
            tmp_path / "merged", frozen_parts={"language_model": str(locations["language_model"])}
        )


def test_a_merged_folder_needs_no_language_model_elsewhere(
    make_reasoner, tmp_path, language_models
):
    base = tmp_path / "base"
    shutil.copytree(language_models["qwen3"], base)
    make_reasoner(folder=str(base)).save_pretrained(tmp_path / "reasoner", "merged")
    shutil.rmtree(base)
    VideoReasoner.from_pretrained(tmp_path / "reasoner")


def test_parts_of_the_package_are_found_wherever_it_is(make_reasoner, tmp_path):
    reasoner = make_reasoner(folder=str(parts.LANGUAGE_MODEL_FOLDER))
    reasoner.perceiver.video_encoder.weights = str(parts.ENCODER_WEIGHTS)
    reasoner.perceiver.segmenter.weights = str(parts.SEGMENTER_WEIGHTS)
    reasoner.save_pretrained(tmp_path / "reasoner")
    config = json.loads((tmp_path / "reasoner" / "config.json").read_text())
    assert {name: part["source"] for name, part in config["frozen_parts"].items()} == {
        "language_model": "vidreason:microworld/parts/language_model",
        "video_encoder": "vidreason:microworld/parts/encoder.safetensors",
        "segmenter": "vidreason:microworld/parts/segmenter.safetensors",
    }
    assert (
        str(Path(frozen_parts.__file__).parents[2])
        not in (tmp_path / "reasoner" / "config.json").read_text()
    )
    loaded = VideoReasoner.from_pretrained(tmp_path / "reasoner")
    assert loaded.perceiver.video_encoder.weights == str(parts.ENCODER_WEIGHTS)
    assert "comes with vidreason" in (tmp_path / "reasoner" / "README.md").read_text()


@pytest.mark.slow  # imports torch in a new process
def test_parts_of_the_package_are_found_in_a_checkout_that_moved(make_reasoner, tmp_path):
    reasoner = make_reasoner(folder=str(parts.LANGUAGE_MODEL_FOLDER))
    reasoner.perceiver.video_encoder.weights = str(parts.ENCODER_WEIGHTS)
    reasoner.perceiver.segmenter.weights = str(parts.SEGMENTER_WEIGHTS)
    reasoner.save_pretrained(tmp_path / "reasoner")
    package = Path(frozen_parts.__file__).parents[1]
    shutil.copytree(package, tmp_path / "moved" / "vidreason")
    code = (
        "from vidreason.model import VideoReasoner;"
        f"reasoner = VideoReasoner.from_pretrained({str(tmp_path / 'reasoner')!r});"
        "print(reasoner.config.language_model.name_or_path)"
    )
    command = [
        sys.executable,
        "-P",
        "-c",
        f"import sys; sys.path.insert(0, {str(tmp_path / 'moved')!r}); {code}",
    ]
    result = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    location = tmp_path / "moved" / "vidreason" / "microworld" / "parts" / "language_model"
    assert result.stdout.splitlines()[-1] == str(location)


def test_an_unused_segmenter_is_not_referred_to(make_reasoner, tmp_path):
    reasoner = make_reasoner()
    reasoner.perceiver.use_objects = False
    Path(reasoner.perceiver.segmenter.weights).unlink()
    reasoner.save_pretrained(tmp_path / "reasoner")
    config = json.loads((tmp_path / "reasoner" / "config.json").read_text())
    assert set(config["frozen_parts"]) == {"language_model", "video_encoder"}
    VideoReasoner.from_pretrained(tmp_path / "reasoner")


def test_a_part_is_read_for_its_hash_once(saved, monkeypatch):
    folder, locations = saved
    read = []

    def counting(path):
        read.append(path)
        return weights_module.hash_file(path)

    VideoReasoner.from_pretrained(folder)
    monkeypatch.setattr(file_hashes, "hash_media", counting)
    frozen_parts._cached_hashes.cache_clear()  # as in another process: what is on the disk counts
    VideoReasoner.from_pretrained(folder)
    assert read == []
    weights = locations["video_encoder"]
    weights.write_bytes(weights.read_bytes())  # the same content at another time
    VideoReasoner.from_pretrained(folder)
    assert read == [str(weights)]


def test_a_home_that_cannot_be_written_to_only_costs_time(saved, tmp_path, monkeypatch):
    folder, _ = saved
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    reasoner = VideoReasoner.from_pretrained(folder)
    assert isinstance(reasoner.fusion.queries, torch.Tensor)
