"""Tar shards: byte ranges that hold the members, indexed once, and what is cut off named."""

import io
import json
import os
import tarfile
from pathlib import Path

import fsspec
import pytest

import data_modules.shard_index as shard_index
from data_modules.index_cache import recorded_inputs, unchanged
from data_modules.shard_index import ShardSample, open_shard_index
from data_modules.skipped_rows import SkippedRows
from data_modules.webdataset import read_webdataset
from vidreason.video.media import open_media, parse_member


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path / "cache"))


def write_shard(path: Path, keys: list[str], *, sizes: int = 700) -> None:
    """A shard of video2dataset's form; every third download has failed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, key in enumerate(keys):
            status = "failed" if number % 3 == 2 else "success"
            members = {"txt": f"caption of {key}", "json": json.dumps({"status": status})}
            if status == "success":
                members["mp4"] = key * sizes
            for extension, text in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))


def samples(folder: Path | str) -> list[ShardSample]:
    return list(open_shard_index(str(folder)).samples())


def test_members_are_read_by_their_bytes(tmp_path: Path) -> None:
    keys = ["000000000", "000000001", "000000002", "sub.dir/000000003_00001"]
    write_shard(tmp_path / "shards/00000.tar", keys)
    write_shard(tmp_path / "shards/more/00001.tar", ["000010000"])
    (tmp_path / "shards/00000_stats.json").write_text("{}")
    found = samples(tmp_path / "shards")
    assert [sample.key for sample in found] == [*keys, "000010000"]
    assert {Path(sample.shard).name for sample in found} == {"00000.tar", "00001.tar"}
    for sample in found:
        status = json.loads(sample.members["json"].read())["status"]
        assert sample.members["txt"].read().decode() == f"caption of {sample.key}"
        assert ("mp4" in sample.members) == (status == "success")
        if status == "success":
            video = sample.members["mp4"]
            assert video.content is None
            assert video.read().decode() == sample.key * 700
            member = parse_member(video.media)
            assert member is not None
            assert (member.archive, member.name) == (sample.shard, f"{sample.key}.mp4")


def test_large_texts_stay_in_their_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_index, "MAX_TEXT_BYTES", 15)
    write_shard(tmp_path / "shards/0.tar", ["7", "long-name"])
    short, long = samples(tmp_path / "shards")
    assert short.members["txt"].content == b"caption of 7"
    assert long.members["txt"].content is None
    assert long.members["txt"].read() == b"caption of long-name"


def test_only_new_and_changed_shards_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shards"
    for number in range(4):
        write_shard(folder / f"{number}.tar", [f"{number}a"])
    scanned = []
    scan = shard_index.scan_shard
    monkeypatch.setattr(
        shard_index,
        "scan_shard",
        lambda *args: (scanned.append(Path(args[0]).name), scan(*args))[1],
    )
    monkeypatch.setattr(shard_index, "SHARDS_A_FILE", 3)
    with recorded_inputs() as inputs:
        samples(folder)
    assert unchanged(inputs)
    assert scanned == ["0.tar", "1.tar", "2.tar", "3.tar"]
    samples(folder)
    assert len(scanned) == 4
    write_shard(folder / "1.tar", ["1b", "1c"])
    write_shard(folder / "4.tar", ["4a"])
    (folder / "3.tar").unlink()
    assert not unchanged(inputs)
    assert [s.key for s in samples(folder)] == ["0a", "1b", "1c", "2a", "4a"]
    assert scanned[4:] == ["1.tar", "4.tar"]
    # The same size, another time: still another content.
    write_shard(folder / "0.tar", ["0z"])
    os.utime(folder / "0.tar", ns=(1, 1))
    assert next(s.key for s in samples(folder)) == "0z"
    assert scanned[6:] == ["0.tar"]


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def test_what_a_damaged_shard_still_holds_is_kept_and_the_rest_named(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    for name in ("empty", "end", "header", "member", "noise", "sound"):
        write_shard(folder / f"{name}.tar", ["0", "1"])
    with tarfile.open(folder / "sound.tar") as tar:
        last = tar.getmembers()[-1]  # 1.mp4
    cut(folder / "empty.tar", 0)
    cut(folder / "member.tar", last.offset_data + 699)
    cut(folder / "header.tar", last.offset + 100)
    cut(folder / "end.tar", last.offset)
    noise = bytearray((folder / "noise.tar").read_bytes())
    noise[last.offset : last.offset + 512] = b"\x55" * 512
    (folder / "noise.tar").write_bytes(noise)
    index = open_shard_index(str(folder))
    causes = {Path(shard).name: cause for shard, cause in index.failures}
    assert causes == {
        "empty.tar": "the shard is damaged: empty file, after its member ''",
        "end.tar": f"the shard is cut off: it ends at byte {last.offset}, after its member "
        "'1.json'",
        "header.tar": f"the shard is cut off: it ends at byte {last.offset + 100}, after its "
        "member '1.json'",
        "member.tar": f"the shard is cut off: its member '1.mp4' ends at byte "
        f"{last.offset_data + 700} of {last.offset_data + 699}",
        "noise.tar": f"the shard is damaged: no header at byte {last.offset}, after its member "
        "'1.json'",
    }
    assert {Path(s.media).name: s.num_members for s in index.shards} == {
        **dict.fromkeys(("end.tar", "header.tar", "member.tar", "noise.tar"), 5),
        **{"empty.tar": 0, "sound.tar": 6},
    }
    videos = [s.shard for s in index.samples() if s.key == "1" and "mp4" in s.members]
    assert [Path(shard).name for shard in videos] == ["sound.tar"]


def test_a_corpus_keeps_what_its_cut_off_shard_still_holds_and_counts_the_rest(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / f"train/{name}.tar", [f"{name}0", f"{name}1"])
    with tarfile.open(tmp_path / "train/a.tar") as tar:
        cut(tmp_path / "train/a.tar", tar.getmembers()[-1].offset_data + 5)
    skipped = SkippedRows()
    examples = list(read_webdataset(str(tmp_path), "train", skipped))
    assert [example.id for example in examples] == [
        f"webdataset:train:{place}" for place in ("a/a0", "b/b0", "b/b1")
    ]
    assert skipped.causes == {"the shard is cut off": 1, "no video (mp4, webm, mkv, mov, avi)": 1}
    (place,) = skipped.first_places["the shard is cut off"]
    assert place.startswith(f"{tmp_path}/train/a.tar (its member 'a1.mp4' ends at byte ")
    member = parse_member(examples[-1].media)
    assert member is not None
    assert (member.name, member.archive) == ("b1.mp4", str(tmp_path / "train/b.tar"))


def test_shards_in_a_store(tmp_path: Path) -> None:
    write_shard(tmp_path / "one.tar", ["0", "1"])
    store = fsspec.filesystem("memory")
    store.pipe("memory://shard-test/one.tar", (tmp_path / "one.tar").read_bytes())
    first, second = samples("memory://shard-test")
    assert first.shard == "memory:///shard-test/one.tar"
    with open_media(second.members["mp4"].media) as file:
        assert file.read() == b"1" * 700


@pytest.mark.slow
def test_processes_index_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        write_shard(tmp_path / f"shards/{number:02d}.tar", [f"{number}a", f"{number}b"])
    alone = list(open_shard_index(str(tmp_path / "shards"), num_processes=1).samples())
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path / "other"))
    assert list(open_shard_index(str(tmp_path / "shards"), num_processes=2).samples()) == alone


def test_no_shard_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(ValueError, match=r"no .tar file below .*unpack them"):
        samples(tmp_path)
