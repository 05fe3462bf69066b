"""Tar shards: byte ranges that hold the members, indexed once, and what is cut off named."""

import gzip
import io
import json
import os
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from tiny_corpora import examples_in

import data_modules.shard_index as shard_index
import data_modules.shard_scan as shard_scan
from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_corpora
from data_modules.files import Files, list_shards, unchanged
from data_modules.shard_index import ShardIndex, ShardSample, open_shard_index
from data_modules.skipped_rows import SkippedRows
from vidreason.video.media import open_media, parse_member


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def index_of(folder: Path | str, num_processes: int | None = None) -> ShardIndex:
    return open_shard_index(str(folder), list_shards(str(folder)), num_processes)


def samples_of(index: ShardIndex) -> list[ShardSample]:
    return [sample for _, samples in index.by_shard() for sample in samples]


def samples(folder: Path | str) -> list[ShardSample]:
    return samples_of(index_of(folder))


def test_members_are_read_by_their_bytes(tmp_path: Path) -> None:
    keys = ["000000000", "000000001", "000000002", "sub.dir/000000003_00001"]
    write_shard(tmp_path / "shards/00000.tar", keys)
    write_shard(tmp_path / "shards/more/00001.tar", ["000010000"])
    (tmp_path / "shards/00000_stats.json").write_text("{}")
    listed = samples(tmp_path / "shards")
    assert [sample.key for sample in listed] == [*keys, "000010000"]
    assert {Path(sample.shard).name for sample in listed} == {"00000.tar", "00001.tar"}
    for sample in listed:
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
    monkeypatch.setattr(shard_scan, "MAX_TEXT_BYTES", 15)
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
    files = Files(tmp_path)
    files.shards("shards")
    samples(folder)
    assert unchanged(files.inputs)
    assert scanned == ["0.tar", "1.tar", "2.tar", "3.tar"]
    samples(folder)
    assert len(scanned) == 4
    write_shard(folder / "1.tar", ["1b", "1c"])
    write_shard(folder / "4.tar", ["4a"])
    (folder / "3.tar").unlink()
    assert not unchanged(files.inputs)
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
    index = index_of(folder)
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
    videos = [s.shard for s in samples_of(index) if s.key == "1" and "mp4" in s.members]
    assert [Path(shard).name for shard in videos] == ["sound.tar"]


def test_a_corpus_keeps_what_its_cut_off_shard_still_holds_and_counts_the_rest(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / f"train/{name}.tar", [f"{name}0", f"{name}1"])
    with tarfile.open(tmp_path / "train/a.tar") as tar:
        cut(tmp_path / "train/a.tar", tar.getmembers()[-1].offset_data + 5)
    skipped = SkippedRows()
    examples = examples_in("webdataset", tmp_path, "train", skipped)
    assert [example.id for example in examples] == [
        f"webdataset:train:{location}" for location in ("a/a0", "b/b0", "b/b1")
    ]
    assert skipped.causes == {"the shard is cut off": 1, "no video (mp4, webm, mkv, mov, avi)": 1}
    (location,) = skipped.first_locations["the shard is cut off"]
    assert location.startswith(f"{tmp_path}/train/a.tar (its member 'a1.mp4' ends at byte ")
    member = parse_member(examples[-1].media)
    assert member is not None
    assert (member.name, member.archive) == ("b1.mp4", str(tmp_path / "train/b.tar"))


def test_shards_in_a_store(tmp_path: Path) -> None:
    write_shard(tmp_path / "one.tar", ["0", "1"])
    store = fsspec.filesystem("memory")
    store.pipe("memory://shard-test/one.tar", (tmp_path / "one.tar").read_bytes())
    first, second = samples("memory://shard-test")
    assert first.shard == "memory://shard-test/one.tar"
    with open_media(second.members["mp4"].media) as file:
        assert file.read() == b"1" * 700


@pytest.mark.slow
def test_processes_index_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        write_shard(tmp_path / f"shards/{number:02d}.tar", [f"{number}a", f"{number}b"])
    alone = samples_of(index_of(tmp_path / "shards", 1))
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path / "other"))
    assert samples_of(index_of(tmp_path / "shards", 2)) == alone


def test_no_shard_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(ValueError, match=r"no .tar file below .*unpack them"):
        samples(tmp_path)


def write_tar(path: Path, *members: tuple[str, bytes], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def read(folder: Path) -> tuple[dict[str, str], dict[str, int]]:
    """Captions by key of what a reader makes of the shards in ``folder / "train"``; the causes."""
    skipped = SkippedRows()
    examples = examples_in("webdataset", folder, "train", skipped)
    return {example.id.rpartition("/")[2]: example.response for example in examples}, dict(
        skipped.causes
    )


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_that_are_not_utf8_are_written_out(tmp_path: Path, form: int) -> None:
    members = [("\udce9.mp4", b"v" * 9), ("\udce9.txt", b"one"), ("z\u00fc.mp4", b"v")]
    write_tar(
        tmp_path / "train/0.tar",
        *(*members, ("z\u00fc.txt", b"two")),
        format=form,
        encoding="utf-8",
        errors="surrogateescape",
    )
    captions, causes = read(tmp_path)
    assert captions == {"\\xe9": "one", "z\u00fc": "two"}
    assert causes == {}
    config = CorpusConfig(reader="webdataset", root=str(tmp_path))
    (first, _) = open_corpora([config])
    assert parse_member(first.media).name == "\\xe9.mp4"  # type: ignore[union-attr]
    with open_media(first.media) as file:
        assert file.read() == b"v" * 9


@pytest.mark.parametrize("padding", [0, 512, 10240])
def test_archives_that_were_written_one_after_another(tmp_path: Path, padding: int) -> None:
    one = write_tar(tmp_path / "one", ("a.mp4", b"video a"), ("a.txt", b"in a")).read_bytes()
    two = write_tar(tmp_path / "two", ("b.mp4", b"video b"), ("b.txt", b"in b")).read_bytes()
    shard = tmp_path / "train/0.tar"
    shard.parent.mkdir()
    shard.write_bytes(one + bytes(padding) + two)
    assert read(tmp_path) == ({"a": "in a", "b": "in b"}, {})
    (_, second) = samples_of(index_of(shard.parent))
    assert second.members["mp4"].read() == b"video b"
    shard.write_bytes(one + two[:515])  # within the video of the second one
    captions, causes = read(tmp_path)
    assert (captions, causes) == ({"a": "in a"}, {"the shard is cut off": 1})
    shard.write_bytes(one + b"no archive" * 100)
    captions, causes = read(tmp_path)
    assert (captions, causes) == ({"a": "in a"}, {"the shard is damaged": 1})


def test_the_same_names_twice(tmp_path: Path) -> None:
    first = [("a.mp4", b"1"), ("a.txt", b"first"), ("b.mp4", b"2"), ("b.txt", b"other")]
    again = [("a.mp4", b"3"), ("a.txt", b"second"), ("a.json", b'{"caption": "third"}')]
    write_tar(tmp_path / "train/0.tar", *first, *again)
    # A shard that was appended to itself, and one whose members are ordered by kind.
    write_tar(tmp_path / "train/1.tar", ("c.mp4", b"1"), ("c.txt", b"x"), ("c.MP4", b"2"))
    write_tar(
        tmp_path / "train/2.tar",
        *(("d.mp4", b"1"), ("e.mp4", b"2"), ("d.txt", b"in d"), ("e.txt", b"in e")),
    )
    captions, causes = read(tmp_path)
    assert captions == {"a": "first", "b": "other", "c": "x", "d": "in d", "e": "in e"}
    assert causes == {"a name that is there before in its shard": 4}
    config = CorpusConfig(reader="webdataset", root=str(tmp_path))
    assert len(open_corpora([config])) == 5


def test_members_that_are_no_plain_files_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "train/0.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind in (
            *(("folder", tarfile.DIRTYPE), ("hard.mp4", tarfile.LNKTYPE)),
            *(("soft.mp4", tarfile.SYMTYPE), ("pipe.mp4", tarfile.FIFOTYPE)),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        long = "folder/" * 40 + "x" * 90
        for name, content in ((f"{long}.mp4", b"v"), (f"{long}.txt", b"long")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    captions, causes = read(tmp_path)
    assert captions == {"x" * 90: "long"}
    assert causes == {"a member is a link, not a file": 2, "a member is no file": 1}
    # A sparse file's bytes are not those that its size speaks of.
    sparse = bytearray(write_tar(tmp_path / "s", ("s.mp4", b"v" * 9)).read_bytes())
    sparse[156:157] = tarfile.GNUTYPE_SPARSE
    sparse[386:512] = bytes(126)
    sparse[386:410] = b"%011o\0%011o\0" % (1024, 9)
    sparse[483:495] = b"%011o\0" % 1033
    checksum = sum(sparse[:148]) + 8 * 32 + sum(sparse[156:512])
    sparse[148:156] = b"%06o\0 " % checksum
    path.write_bytes(sparse)
    assert read(tmp_path)[1] == {"a member is sparse": 1}


def test_names_are_never_paths(tmp_path: Path) -> None:
    names = ("/etc/cron", "../../up", "./here", "C:\\x", "a\nb")
    members = [m for name in names for m in ((f"{name}.mp4", b"v"), (f"{name}.txt", b"t"))]
    write_tar(tmp_path / "train/0.tar", *members)
    examples = examples_in("webdataset", tmp_path, "train")
    assert len(examples) == len(names)
    config = CorpusConfig(reader="webdataset", root=str(tmp_path))
    for stored, name in zip(open_corpora([config]), names, strict=True):
        member = parse_member(stored.media)
        assert member is not None
        assert (member.archive, member.name) == (str(tmp_path / "train/0.tar"), f"{name}.mp4")


def test_compressed_and_empty_shards(tmp_path: Path) -> None:
    plain = write_tar(tmp_path / "train/a.tar", ("a.mp4", b"v"), ("a.txt", b"t")).read_bytes()
    (tmp_path / "train/b.tar").write_bytes(gzip.compress(plain))
    (tmp_path / "train/c.tar.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "train/d.tar").write_bytes(bytes(10240))  # tar's own archive of nothing
    (tmp_path / "train/E.TAR").write_bytes(plain)
    captions, causes = read(tmp_path)
    assert captions == {"a": "t"}
    assert causes == {"the shard is compressed": 2}
    skipped = SkippedRows()
    assert len(examples_in("webdataset", tmp_path, "train", skipped)) == 2
    (location, _) = skipped.first_locations["the shard is compressed"]
    assert location.startswith(f"{tmp_path}/train/b.tar (by gzip, and cannot be read by byte range")


def damaged_headers() -> Iterator[tuple[str, bytes]]:
    """Headers with a right checksum and a wrong field."""
    sound = tarfile.TarInfo("a.mp4")
    sound.size = 4
    for name, start, field in (
        ("a negative size", 124, b"\xff" * 12),
        ("a size beyond all bytes", 124, b"\x80" + b"\x7f" * 11),
        ("no number", 124, b"xxxxxxxxxxx\0"),
        ("a long name of a terabyte", 124, b"\x80\0\0\0\0\0\1\0\0\0\0\0"),
        ("a pax header of a terabyte", 124, b"\x80\0\0\0\0\0\1\0\0\0\0\0"),
        ("a negative pax header", 124, b"\xff" * 9 + b"\xf0\0\0"),
        ("a way back", 124, b"\xff" * 10 + b"\xf0\0"),
    ):
        header = bytearray(sound.tobuf(tarfile.GNU_FORMAT))
        header[start : start + len(field)] = field
        if "long name" in name or "pax" in name:
            header[156:157] = b"L" if "long" in name else b"x"
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        yield name, bytes(header)
    pax = b"20 hdrcharset=\xff\xff\xff\xff\n" + b"9 size=x\n" + b"0 a=b\n"
    info = tarfile.TarInfo("pax")
    info.size, info.type = len(pax), tarfile.XHDTYPE
    yield "a pax header of nothing", info.tobuf(tarfile.GNU_FORMAT) + pax.ljust(512, b"\0")
    long = tarfile.TarInfo("././@LongLink")
    long.size, long.type = 1, tarfile.GNUTYPE_LONGNAME
    yield "names without an end", (long.tobuf(tarfile.GNU_FORMAT) + bytes(512)) * 3000


@pytest.mark.parametrize(("name", "header"), list(damaged_headers()))
def test_a_damaged_header_loses_what_follows_it_and_nothing_else(
    tmp_path: Path, name: str, header: bytes
) -> None:
    sound = write_tar(tmp_path / "one", ("0.mp4", b"v"), ("0.txt", b"sound")).read_bytes()
    shard = tmp_path / "train/0.tar"
    shard.parent.mkdir()
    shard.write_bytes(sound[:2048] + header + sound)
    tracemalloc.start()
    captions, causes = read(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert captions == {"0": "sound"}
    assert causes in ({"the shard is damaged": 1}, {"the shard is cut off": 1})
    assert peak < 50e6
    ((location, _),) = index_of(shard.parent).failures
    assert location == str(shard)


def test_a_shard_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = write_tar(tmp_path / "train/0.tar", ("0.mp4", b"v"))

    def refuse(media: str) -> None:
        raise PermissionError(13, "Permission denied", media)

    monkeypatch.setattr(shard_scan, "open_media", refuse)
    with pytest.raises(ValueError, match=rf"the shard '{shard}' cannot be read: .*Permission"):
        examples_in("webdataset", tmp_path, "train")
