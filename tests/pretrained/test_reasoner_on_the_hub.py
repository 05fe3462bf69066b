"""Repositories of the Hub, without the Hub: its cache on the disk, and a client that only notes."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

from vidreason.model import VideoReasoner
from vidreason.pretrained import hub
from vidreason.pretrained.published import published_copy

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the Hub, offline: ``add(name, folder)`` puts a repository there."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def add(name, content):
        repository = folder / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(COMMIT)
        shutil.copytree(content, repository / "snapshots" / COMMIT)

    return add


def test_a_cached_repository_loads_offline(make_reasoner, cache, tmp_path):
    reasoner = make_reasoner()
    reasoner.save_pretrained(tmp_path / "reasoner", "merged")
    cache("someone/reasoner", tmp_path / "reasoner")
    for revision in (None, "main", COMMIT):
        loaded = VideoReasoner.from_pretrained("someone/reasoner", revision=revision)
        assert torch.equal(loaded.fusion.queries, reasoner.fusion.queries)
    for name, revision in (("someone/reasoner", "v2"), ("someone/other", None)):
        with pytest.raises(ValueError, match=f"no reasoner folder '{name}' here, and no repo") as e:
            VideoReasoner.from_pretrained(name, revision=revision)
        assert len(str(e.value).splitlines()) == 1
    with pytest.raises(ValueError, match="is a local folder, which has none"):
        VideoReasoner.from_pretrained(tmp_path / "reasoner", revision="main")


def test_what_cannot_be_a_repository_is_refused_in_the_same_words(cache):
    with pytest.raises(ValueError, match="there is no reasoner folder 'a/b/c' here"):
        VideoReasoner.from_pretrained("a/b/c")


def test_a_frozen_part_on_the_hub_is_checked_too(
    make_reasoner, language_models, cache, tmp_path, monkeypatch
):
    cache("maker/tiny-llama", language_models["llama"])
    make_reasoner(folder="maker/tiny-llama").save_pretrained(tmp_path / "reasoner")
    config = (tmp_path / "reasoner" / "config.json").read_text()
    assert '"source": "maker/tiny-llama"' in config
    adapter = (tmp_path / "reasoner" / "language_model" / "adapter_config.json").read_text()
    assert '"base_model_name_or_path": "maker/tiny-llama"' in adapter
    VideoReasoner.from_pretrained(tmp_path / "reasoner")
    # The repository has moved on to other weights: refused, unless one says where the old ones are.
    shutil.rmtree(constants.HF_HUB_CACHE)
    cache("maker/tiny-llama", language_models["llama tied"])
    with pytest.raises(ValueError, match="language_model at 'maker/tiny-llama' is not the one"):
        VideoReasoner.from_pretrained(tmp_path / "reasoner")
    old = {"language_model": language_models["llama"]}
    loaded = VideoReasoner.from_pretrained(tmp_path / "reasoner", frozen_parts=old)
    assert loaded.config.language_model.name_or_path == language_models["llama"]


class NotingApi:
    """Takes an upload as the Hub's client does, and keeps a copy."""

    copies: Path

    def __init__(self):
        self.created = None

    def create_repo(self, repository, *, private, exist_ok):
        assert exist_ok
        NotingApi.created = (repository, private)

    def upload_folder(self, *, repo_id, folder_path, commit_message, delete_patterns):
        shutil.copytree(folder_path, NotingApi.copies / repo_id)
        NotingApi.deleted = delete_patterns
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


@pytest.mark.parametrize("form", ["trained", "merged"])
def test_what_is_uploaded_is_the_folder(
    make_reasoner, language_models, tmp_path, monkeypatch, form
):
    NotingApi.copies = tmp_path / "uploaded"
    monkeypatch.setattr(hub, "HfApi", NotingApi)
    reasoner = make_reasoner()
    address = reasoner.push_to_hub("someone/reasoner", form)
    assert address == "https://hub/someone/reasoner/commit/1"
    assert NotingApi.created == ("someone/reasoner", True)
    reasoner.save_pretrained(tmp_path / "saved", form)
    uploaded = tmp_path / "uploaded" / "someone" / "reasoner"
    names = sorted(path.relative_to(uploaded) for path in uploaded.rglob("*.*"))
    assert names == sorted(
        p.relative_to(tmp_path / "saved") for p in (tmp_path / "saved").rglob("*.*")
    )
    with published_copy(tmp_path / "saved") as expected:
        for name in names:
            assert any(name.match(pattern) for pattern in hub.READ_FILES), "it would not come back"
            assert (uploaded / name).read_bytes() == (expected / name).read_bytes()
    # A repository may hold the other form from before.
    assert "language_model/*" in NotingApi.deleted
    parts = {part.stem: str(part) for part in (tmp_path / "weights").iterdir()}
    parts["video_encoder"] = parts.pop("encoder")
    if form == "trained":
        parts["language_model"] = language_models["llama"]
    VideoReasoner.from_pretrained(uploaded, frozen_parts=parts)


@pytest.mark.parametrize("name", ["config.json", "README.md"])
def test_a_folder_with_a_secret_is_not_uploaded(tmp_path, monkeypatch, name):
    monkeypatch.setattr(hub, "HfApi", NotingApi)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    NotingApi.created = None
    (tmp_path / name).write_text('{"name": "a/0123456789abcdef"}')
    with pytest.raises(ValueError, match=f"{name} holds the value of WANDB_API_KEY"):
        hub.upload(tmp_path, "a/b")
    assert NotingApi.created is None


def test_a_refusal_of_the_hub_is_told_in_a_line(make_reasoner, monkeypatch):
    class RefusingApi:
        def create_repo(self, repository, **_):
            response = SimpleNamespace(headers={}, request=None, status_code=401)
            raise HfHubHTTPError("401 Unauthorized\nfor url", response=response)

    monkeypatch.setattr(hub, "HfApi", RefusingApi)
    with pytest.raises(ValueError, match=r"could not upload to 'a/b' .*\(401 Unauthorized\)") as e:
        make_reasoner().push_to_hub("a/b")
    assert len(str(e.value).splitlines()) == 1
