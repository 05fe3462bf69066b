"""Media that a corpus' rows may name, and those that are refused and counted."""

import json
import os
from pathlib import Path
from typing import Any

import datasets
import pytest

from data_modules.corpora import CorpusConfig, DataConfig
from data_modules.data_check import DataCheckConfig, check_data
from data_modules.media_access import OUTSIDE, REMOTE, UNSUPPORTED, MediaAccess
from data_modules.readers import read_corpus
from data_modules.skipped_rows import SkippedRows
from vidreason.video.media import TarMember


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A corpus' folder beside another one, with links that lead inside and outside."""
    for name in ("corpus/videos", "corpus-2", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "elsewhere/secret.mp4").write_bytes(b"secret")
    root = tmp_path / "corpus"
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (root / "videos/out.mp4").symlink_to(tmp_path / "elsewhere/secret.mp4")
    (root / "videos/in.mp4").symlink_to("other.mp4")
    (root / "same").symlink_to("videos")
    return root


INSIDE = (
    "videos/a.mp4",
    "videos/../videos/a.mp4",
    "./b.mp4",
    "videos/in.mp4",
    "same/a.mp4",
    "..a/b",
)
OUT = (
    "../elsewhere/secret.mp4",
    "out/secret.mp4",
    "out/none.mp4",
    "videos/out.mp4",
    "../corpus-2/a",
)
OUT += ("same/../../elsewhere/secret.mp4", "videos/..", "..", "out/../elsewhere/secret.mp4")


@pytest.mark.parametrize("media", INSIDE)
def test_media_inside_may_be_named_in_any_way(root: Path, media: str) -> None:
    access = MediaAccess(str(root))
    for form in (f"{root}/{media}", f"file://{root}/{media}", f"file:///{root}/{media}"):
        assert access.refusal(form) == ""
    assert access.refusal(TarMember(f"{root}/{media}.tar", 0, 5, "/etc/passwd").media) == ""


@pytest.mark.parametrize("media", OUT)
def test_media_outside_are_refused_however_they_are_named(root: Path, media: str) -> None:
    access = MediaAccess(str(root))
    for form in (f"{root}/{media}", f"file://{root}/{media}", f"FILE://{root}/{media}"):
        assert access.refusal(form) == OUTSIDE
    if not media.endswith(".."):
        folder = f"{root}/{media}".rpartition("/")[0]
        assert access.refusal(TarMember(f"{folder}/s.tar", 0, 5, "a.mp4").media) == (
            "" if folder == f"{root}/videos" else OUTSIDE
        )


def test_other_paths_and_urls(root: Path) -> None:
    access = MediaAccess(str(root))
    for media in ("/etc/passwd", "file:///etc/passwd", "/", f"{root}", "a\0b.mp4", "file://"):
        assert access.refusal(media) == OUTSIDE
    for media in ("http://127.0.0.1/latest/meta-data", "S3://b/a.mp4", "memory://a.mp4"):
        assert access.refusal(media) == REMOTE
    for media in ("smb://h/a.mp4", "reference://a", "simplecache::http://h/a.mp4", "git://x"):
        assert access.refusal(media) == UNSUPPORTED
        assert MediaAccess(str(root), allow_remote=True).refusal(media) == UNSUPPORTED
    assert MediaAccess(str(root), allow_remote=True).refusal("https://h/a.mp4") == ""
    assert MediaAccess(str(root), allow_remote=True).refusal("/etc/passwd") == OUTSIDE


def test_a_further_folder_and_a_root_that_is_a_link(root: Path, tmp_path: Path) -> None:
    access = MediaAccess(str(root), str(tmp_path / "elsewhere"))
    for media in ("out/secret.mp4", "videos/out.mp4", "../elsewhere/secret.mp4", "videos/a.mp4"):
        assert access.refusal(f"{root}/{media}") == ""
    assert access.refusal(f"{root}/../corpus-2/a.mp4") == OUTSIDE
    (tmp_path / "link").symlink_to(root)
    linked = MediaAccess(str(tmp_path / "link"))
    assert linked.refusal(f"{tmp_path}/link/videos/a.mp4") == ""
    assert linked.refusal(f"{root}/videos/a.mp4") == ""
    assert linked.refusal(f"{tmp_path}/link/out/secret.mp4") == OUTSIDE
    assert MediaAccess(str(root), "/").refusal("/etc/passwd") == ""


def test_a_relative_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    access = MediaAccess("corpus")
    assert access.refusal("corpus/videos/a.mp4") == ""
    assert access.refusal(f"{root}/videos/a.mp4") == ""
    assert access.refusal("corpus/../elsewhere/secret.mp4") == OUTSIDE
    assert access.refusal("videos/a.mp4") == OUTSIDE


def test_media_below_a_remote_root(root: Path) -> None:
    access = MediaAccess("s3://bucket/corpus", str(root))
    assert access.refusal("s3://bucket/corpus/train/0.mp4") == ""
    assert access.refusal(TarMember("s3://bucket/corpus/train/0.tar", 0, 5, "a").media) == ""
    assert access.refusal(f"{root}/videos/a.mp4") == ""
    for media in (
        *("s3://bucket/corpus2/a.mp4", "s3://bucket/corpus/../other/a.mp4", "s3://other/a.mp4"),
        *("s3://bucket/corpus/%2e%2E/other/a.mp4", "https://bucket/corpus/a.mp4"),
        "s3://bucket/corpus/..%5Cother.mp4",
    ):
        assert access.refusal(media) == REMOTE
    assert access.refusal("/etc/passwd") == OUTSIDE


def test_what_was_downloaded_from_the_hub_lies_in_its_cache(tmp_path: Path) -> None:
    repository = tmp_path / "hub/datasets--someone--clips"
    snapshot = repository / "snapshots/0a1b"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs/77aa").write_bytes(b"video")
    (snapshot / "a.mp4").symlink_to("../../blobs/77aa")
    (snapshot / "b.mp4").symlink_to("/etc/passwd")
    access = MediaAccess(str(snapshot))
    assert access.refusal(f"{snapshot}/a.mp4") == ""
    assert access.refusal(f"{snapshot}/b.mp4") == OUTSIDE
    cached = str(datasets.config.HF_DATASETS_CACHE)
    by_name = MediaAccess("someone/clips", is_on_hub=True)
    assert by_name.refusal(f"{cached}/downloads/extracted/a.mp4") == ""
    assert by_name.refusal("hf://datasets/someone/clips@main/a.mp4") == ""
    assert by_name.refusal("hf://datasets/someone/clips-2/a.mp4") == REMOTE


def test_a_corpus_of_many_files_takes_no_request_for_each(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access, requests = MediaAccess(str(root)), []
    for name in ("scandir", "lstat", "readlink"):
        call = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, call=call, **k: requests.append(call) or call(*a, **k)
        )
    for number in range(1000):
        assert access.refusal(f"{root}/videos/{number}.mp4") == ""
    assert len(requests) < 40  # those of the path to one folder


def write_rows(root: Path, *media: str) -> Path:
    rows: list[dict[str, Any]] = [
        {
            "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
            "videos": [one],
        }
        for one in media
    ]
    (root / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def test_rows_that_are_refused_are_counted_with_their_ids(root: Path, tmp_path: Path) -> None:
    media = ("videos/a.mp4", "/etc/passwd", "http://127.0.0.1/x", "reference://y", "videos/\udce9")
    write_rows(root, *media)
    config = CorpusConfig(reader="chat_messages", root=str(root))
    skipped = SkippedRows(max_malformed_fraction=0.5)
    (example,) = read_corpus(config, skipped)
    assert example.media == str(root / "videos/a.mp4")
    assert skipped.causes == {OUTSIDE: 1, REMOTE: 1, UNSUPPORTED: 1, "malformed": 1}
    assert skipped.first_locations[OUTSIDE] == ["chat_messages:train:1:0 (/etc/passwd)"]
    report = check_data(
        DataConfig(train=[config]), DataCheckConfig(max_skipped_fraction=0.9), tmp_path / "check"
    )
    assert report.corpora[0].skipped == dict(skipped.causes)
    assert report.corpora[0].media == {"missing": 1}


def test_what_allows_them_is_said_where_nothing_is_left(root: Path) -> None:
    write_rows(root, "/etc/passwd", "https://h/a.mp4")
    with pytest.raises(ValueError, match=r"has no example; .* media_dir in .* allow_remote_media"):
        list(read_corpus(CorpusConfig(reader="chat_messages", root=str(root))))
    config = CorpusConfig(
        reader="chat_messages", root=str(root), media_dir="/etc", allow_remote_media=True
    )
    assert [example.media for example in read_corpus(config)] == ["/etc/passwd", "https://h/a.mp4"]


def test_names_that_are_not_below_the_root_are_looked_for_in_media_dir(root: Path) -> None:
    videos = root.parent / "films"
    (videos / "clips").mkdir(parents=True)
    (videos / "clips/a.mp4").write_bytes(b"")
    (root / "videos/b.mp4").write_bytes(b"")
    turns = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
    names = ["clips/a.mp4", "videos/b.mp4", "clips/none.mp4", "../elsewhere/secret.mp4"]
    rows = [{"video": name, "conversations": turns} for name in names]
    (root / "train.json").write_text(json.dumps(rows))
    skipped = SkippedRows()
    config = CorpusConfig(reader="llava", root=str(root), media_dir=str(videos))
    media = [example.media for example in read_corpus(config, skipped)]
    assert media == [f"{videos}/clips/a.mp4", f"{root}/videos/b.mp4", f"{videos}/clips/none.mp4"]
    assert skipped.num_skipped == 1
    config.media_dir = "https://films"
    assert next(read_corpus(config, SkippedRows())).media == "https://films/clips/a.mp4"
