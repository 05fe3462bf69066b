"""Corpora on disk: what is read back is what was written, and written again when it must be."""

import json
import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import data_modules.corpus_index as corpus_index
import data_modules.example_files as example_files
import data_modules.id_hashes as id_hashes
from data_modules.corpora import CorpusConfig, DataConfig
from data_modules.corpus_index import Corpora, open_corpora
from data_modules.example_files import EXAMPLES_FILE, CorpusIndex, write_index
from data_modules.files import Files
from data_modules.readers import READERS
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")


def captions(number: int) -> list[Example]:
    return [
        Example(
            id=f"webvid:train:{row:04d}",
            corpus="webvid",
            media=f"/videos/{row}.mp4",
            video_id=str(row),
            prompt="Describe it.",
            response=f"Caption {row}",
            answers=(f"Caption {row}",),
        )
        for row in range(number)
    ]


MIXED = [
    *captions(2),
    Example(
        id="nextqa:val:1",
        corpus="nextqa",
        media="s3://b/\u00fc.tar#offset=1&size=2&name=a.mp4",
        video_id="",
        start_seconds=0.0,
        end_seconds=2.25,
        prompt="",
        response="yes",
        options=("a", "", "None"),
        answer_index=2,
        answers=("yes", "no"),
        question_type="CW",
        meta={"a": "b", "\u00e9": ""},
    ),
    Example(id="x", corpus="", media="", video_id="", prompt="Describe it.", response=""),
    Example(id="y", corpus="", media="", video_id="", prompt="p", response="", answers=("",)),
]


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("rows_a_batch", [1, 2, 5, 4096])
def test_what_is_read_back_is_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_a_batch: int
) -> None:
    monkeypatch.setattr(example_files, "ROWS_A_BATCH", rows_a_batch)
    write_index(tmp_path / "index", iter(MIXED))
    monkeypatch.undo()  # a written index knows its own
    index = CorpusIndex(tmp_path / "index")
    assert list(index) == MIXED
    assert len(index) == 5
    assert index[-1] == MIXED[4]
    assert index[1:4] == MIXED[1:4]
    assert index.lengths(np.array([2, 0])).tolist() == [3, len("Describe it.Caption 0")]
    with pytest.raises(IndexError, match="example 5 of 5"):
        index[5]
    copy = pickle.loads(pickle.dumps(index))
    assert len(pickle.dumps(index)) < 1000
    assert copy[2] == MIXED[2]


def test_corpora_one_after_another(tmp_path: Path) -> None:
    parts = [captions(3), MIXED[2:3], captions(7)[3:]]
    for number, part in enumerate(parts):
        write_index(tmp_path / str(number), part)
    corpora = Corpora([CorpusIndex(tmp_path / str(number)) for number in range(3)])
    expected = [example for part in parts for example in part]
    assert corpora.sizes == [3, 1, 4]
    assert list(corpora) == expected
    assert corpora[2:5] == expected[2:5]
    assert corpora[-1] == expected[-1]
    order = np.array([7, 3, 0, 3, 4])
    lengths = [len(expected[index].prompt) + len(expected[index].response) for index in order]
    assert corpora.lengths(order).tolist() == lengths
    assert pickle.loads(pickle.dumps(corpora))[4] == expected[4]
    with pytest.raises(IndexError, match="example 8 of 8"):
        corpora[8]
    assert (len(Corpora([])), list(Corpora([]))) == (0, [])


@pytest.fixture
def webvid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """``webvid(limit=None)``: the ids of a small corpus; ``webvid.reads`` counts its readings."""
    root = tmp_path / "webvid"
    root.mkdir()
    write_rows(root, ["a", "b", "c"])
    reader = READERS["webvid"]

    def counted(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
        with (tmp_path / "reads").open("a") as file:  # by whatever process
            file.write("read\n")
        yield from reader.read(files, split, skipped)

    monkeypatch.setitem(READERS, "webvid", reader._replace(read=counted))

    def ids(**config: int) -> list[str]:
        corpus = open_corpora([CorpusConfig(reader="webvid", root=str(root), **config)])
        return [example.video_id for example in corpus]

    return ids


def write_rows(root: Path, ids: list[str], name: str = "train.csv") -> None:
    rows = "".join(f"{one},caption of {one},0\n" for one in ids)
    (root / name).write_text(f"videoid,name,page_dir\n{rows}")


def num_reads(folder: Path) -> int:
    return len((folder / "reads").read_text().splitlines())


def test_a_corpus_is_read_once_and_again_when_something_has_changed(
    webvid: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert webvid() == ["a", "b", "c"]
    assert num_reads(tmp_path) == 1
    assert webvid(limit=2) == ["a", "b"]
    assert num_reads(tmp_path) == 2
    write_rows(tmp_path / "webvid", ["a", "b", "d"])  # the same size
    for _ in range(2):
        assert webvid() == ["a", "b", "d"]
    assert num_reads(tmp_path) == 3
    # A file that would be read instead.
    (tmp_path / "webvid/metadata").mkdir()
    write_rows(tmp_path / "webvid", ["e"], "metadata/results_2M_train.csv")
    assert webvid() == ["e"]
    reader = READERS["webvid"]
    monkeypatch.setitem(READERS, "webvid", reader._replace(version=reader.version + 1))
    assert webvid() == ["e"]
    assert num_reads(tmp_path) == 5


def test_an_outdated_index_is_deleted_when_no_run_can_be_reading_it(
    webvid: Callable[..., list[str]], tmp_path: Path
) -> None:
    def indices() -> list[Path]:
        return sorted(path.parent for path in (tmp_path / "cache").rglob(EXAMPLES_FILE))

    webvid()
    (first,) = indices()
    write_rows(tmp_path / "webvid", ["d"])
    assert webvid() == ["d"]
    assert len(indices()) == 2
    long_ago = time.time() - (corpus_index.UNUSED_DAYS + 1) * 86_400
    for index in indices():
        os.utime(index, (long_ago, long_ago))
    write_rows(tmp_path / "webvid", ["e", "f"])
    assert webvid() == ["e", "f"]
    (last,) = indices()
    assert last != first
    os.utime(last, (long_ago, long_ago))
    webvid()
    assert last.stat().st_mtime > long_ago + 86_400  # opening it counts
    shutil.rmtree(last)
    assert webvid() == ["e", "f"]


def test_a_reading_that_fails_leaves_nothing(
    webvid: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "webvid/train.csv").write_text("videoid,name,page_dir\na,b,c\nd,cut")
    with pytest.raises(ValueError, match=r"train.csv:3: the last row has no line end"):
        webvid()
    assert not list((tmp_path / "cache").rglob("*.arrow"))
    write_rows(tmp_path / "webvid", ["f"])
    assert webvid() == ["f"]


def test_an_empty_corpus_is_an_error(webvid: Callable[..., list[str]], tmp_path: Path) -> None:
    write_rows(tmp_path / "webvid", [])
    with pytest.raises(ValueError, match=r"corpus 'webvid', split 'train' in .* has no example"):
        webvid()


def test_what_was_left_out_is_said_each_time_a_corpus_is_opened(
    webvid: Callable[..., list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_rows(tmp_path / "webvid", ["a", "b"])
    webvid()
    assert caplog.messages == []
    path = tmp_path / "webvid/train.csv"
    path.write_text(path.read_text() + "c,None,0\nd,,0\n")
    for number in (1, 2, 3):
        caplog.clear()
        assert webvid() == ["a", "b"]
        (line,) = [one for one in caplog.messages if "besides" in one]
        assert line == (
            f"corpus 'webvid', split 'train' in {str(tmp_path / 'webvid')!r}: 2 rows were left "
            f"out, besides 2 examples: 2 x no caption (column 'name'), such as {path}:4, {path}:5"
        )
        assert len(caplog.messages) == (2 if number == 1 else 1)  # the first row, as it is met
    assert num_reads(tmp_path) == 2


def test_an_empty_corpus_of_a_mixture_is_named_with_what_was_left_out(
    webvid: Callable[..., list[str]], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "train.csv").write_text("videoid,name,page_dir\nx,None,0\ny,,0\n")
    configs = [
        CorpusConfig(reader="webvid", root=str(tmp_path / one), name=one)
        for one in ("webvid", "other")
    ]
    message = r"split 'train' in '.*/other' has no example; all its rows were left out: 2 x no capt"
    for _ in range(2):  # nothing is kept of it
        with pytest.raises(ValueError, match=message):
            open_corpora(configs)
    write_rows(other, ["x"])
    assert open_corpora(configs).sizes == [3, 1]


def test_processes_that_start_together_read_a_corpus_once(
    webvid: Callable[..., list[str]], tmp_path: Path
) -> None:
    def work(number: int) -> None:
        (tmp_path / f"{number}.json").write_text(json.dumps(webvid()))

    processes = [get_context("fork").Process(target=work, args=(n,)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    for number in range(3):
        assert json.loads((tmp_path / f"{number}.json").read_text()) == ["a", "b", "c"]
    assert num_reads(tmp_path) == 1


@pytest.mark.parametrize("spill", [4, 10**6])
def test_an_id_that_is_there_twice_is_named(
    webvid: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spill: int,
) -> None:
    monkeypatch.setattr(id_hashes, "SPILL_HASHES", spill)
    monkeypatch.setattr(example_files, "ROWS_A_BATCH", 3)
    names = [f"{number:02d}" for number in range(40)]
    write_rows(tmp_path / "webvid", [*names, "17", "03", "17"])
    with pytest.raises(
        ValueError, match=r"the id 'webvid:train:03' is there twice .* 1 others: each"
    ):
        webvid()
    write_rows(tmp_path / "webvid", names)
    assert webvid() == names
    other = tmp_path / "other"
    other.mkdir()
    write_rows(other, ["x", "38", "y"])
    roots = (tmp_path / "webvid", other)
    first, second = (CorpusConfig(reader="webvid", root=str(root)) for root in roots)
    named = open_corpora([first, replace(second, name="mine")])
    ids = [example.id for example in named]
    assert ids[:1] + ids[40:] == [
        "webvid:train:00",
        *(f"mine:train:{row}" for row in ("x", "38", "y")),
    ]
    assert {example.corpus for example in named} == {"webvid", "mine"}
    # With names their ids cannot clash, without them nothing is read.
    for role in ("train", "validation", "benchmark"):
        for configs in ([first, second], [replace(one, name="a") for one in (first, second)]):
            with pytest.raises(ValueError, match=rf"data.{role} has two corpora .*name: NAME"):
                DataConfig(**{role: configs})
            with pytest.raises(ValueError, match=r"two corpora .*name: NAME beside its root"):
                open_corpora(configs)
        with pytest.raises(ValueError, match=r"twice, as entries 0 and 2: take one of them away"):
            DataConfig(**{role: [first, replace(first, split="val"), first]})
    assert DataConfig(train=[first], validation=[first], benchmark=[second]).train == [first]


def test_groups_and_spans_come_back(tmp_path: Path) -> None:
    plain = Example(id="a", corpus="c", media="m", video_id="v", prompt="p", response="r")
    rows = [plain, replace(plain, id="b", group_id="g", spans=((0.5, 2.0), (3.0, 4.25)))]
    write_index(tmp_path / "index", rows)
    assert [replace(row, answers=()) for row in CorpusIndex(tmp_path / "index")] == rows


def test_ids_that_only_share_a_hash_are_two(
    webvid: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (example_files, corpus_index):
        monkeypatch.setattr(module, "id_hash", len)
    assert webvid() == ["a", "b", "c"]


@pytest.mark.parametrize("spill", [3, 10**6])
def test_hashes_are_sorted_whatever_is_spilled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spill: int
) -> None:
    monkeypatch.setattr(id_hashes, "SPILL_HASHES", spill)
    generator = np.random.default_rng(0)
    values = generator.integers(0, 2**64, 100, dtype=np.uint64)
    hashes = id_hashes.IdHashes(tmp_path / "hashes")
    for part in np.split(values, 25):
        hashes.add(part)
    hashes.write()
    written = np.fromfile(tmp_path / "hashes", np.uint64)
    assert written.tolist() == sorted(values.tolist())
    assert [path.name for path in tmp_path.iterdir()] == ["hashes"]
    for repeated in ([], [int(values[17])]):
        hashes = id_hashes.IdHashes(tmp_path / "hashes")
        hashes.add([*values.tolist(), *repeated])
        assert hashes.distinct() == (100, next(iter(repeated), None))


def test_a_cache_of_somebody_else_is_read(
    webvid: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert webvid() == ["a", "b", "c"]
    made = sorted((tmp_path / "cache").rglob("*"))

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    assert webvid() == ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"cannot be written \(Permission denied\): set VIDREASON"):
        webvid(limit=2)
    assert sorted((tmp_path / "cache").rglob("*")) == made


def test_an_annotation_file_that_may_not_be_read_is_named(
    webvid: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "train.csv")

    monkeypatch.setattr("data_modules.annotation_files._split_lines", refuse)
    with pytest.raises(ValueError, match=r"corpus 'webvid', .* cannot be read: .*'train.csv'"):
        webvid()
