"""Files that a reader looks at are recorded: an index made from them knows when it is outdated."""

import ast
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_corpora import TINY_CORPORA, TinyCorpus

import data_modules
from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_corpora
from data_modules.files import Files, unchanged
from data_modules.readers import READERS
from data_modules.skipped_rows import SkippedRows

_opened: set[Path] | None = None


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | Path):
        _opened.add(Path(arguments[0]))


sys.addaudithook(_listen)


@contextmanager
def opened_files() -> Iterator[set[Path]]:
    """The files that are opened meanwhile, however that is done in Python."""
    global _opened
    _opened = set()
    try:
        yield _opened
    finally:
        _opened = None


@pytest.mark.parametrize("corpus", TINY_CORPORA, ids=lambda corpus: corpus.reader)
def test_a_change_of_any_file_that_was_read_is_seen(corpus: TinyCorpus, tmp_path: Path) -> None:
    path = corpus.write(tmp_path)
    files = Files(tmp_path)
    with opened_files() as opened:
        list(READERS[corpus.reader].read(files, corpus.split, SkippedRows()))
    read = {one for one in opened if one.is_relative_to(tmp_path)}
    assert path in read
    assert unchanged(files.inputs)
    for one in read:
        status = one.stat()
        os.utime(one, ns=(1, 1))
        assert not unchanged(files.inputs), one
        os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))
    absent = [key for key, state in files.inputs.items() if state == "absent"]
    for key in absent:
        one = Path(key.partition(":")[2])
        top = next(path for path in (*reversed(one.parents), one) if not path.exists())
        assert unchanged({key: "absent"})
        one.mkdir(parents=True)
        assert not unchanged({key: "absent"}), one
        shutil.rmtree(top)


def test_files_recorded_together_are_seen_each(tmp_path: Path) -> None:
    for name in ("a.json", "sub/b.json", "sub/c.mp4"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text("x")
    files = Files(tmp_path)
    files.record_tree("tree", ".json")
    assert files.exists("tree/a.json")
    assert not files.exists("tree/none.json")
    assert len(files.inputs) == 1
    (tmp_path / "tree/sub/c.mp4").write_text("not recorded")
    assert unchanged(files.inputs)
    for name in ("sub/b.json", "sub/new.json"):
        (tmp_path / "tree" / name).write_text("longer")
        assert not unchanged(files.inputs)
        files.inputs.clear()
        files.record_tree("tree", ".json")


def test_a_data_set_on_disk_is_read_again_when_one_of_its_files_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set/data"
    folder.mkdir(parents=True)
    config = CorpusConfig(reader="huggingface", root=str(tmp_path / "set"))
    for text in ("A dog runs.", "A cat sits.", "A cow lies there."):
        (folder / "train.jsonl").write_text(f'{{"media": "a.mp4", "response": "{text}"}}\n')
        assert [example.response for example in open_corpora([config])] == [text]


LOOKS = {
    *("open", "read_text", "read_bytes", "exists", "is_file", "is_dir", "iterdir", "glob"),
    *("rglob", "stat", "listdir", "scandir", "isfile", "isdir", "walk", "getsize", "getmtime"),
}


def test_readers_look_at_files_through_files_only() -> None:
    wrong, num_readers = [], 0
    for path in Path(data_modules.__path__[0]).glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
        reads = [f for f in functions if "files" in {argument.arg for argument in f.args.args}]
        if not any(function.name.startswith("read_") for function in reads):
            continue
        num_readers += 1
        for node in nodes:
            if isinstance(node, ast.Name) and node.id == "open":
                wrong.append(f"{path.name}:{node.lineno}: open")
            if isinstance(node, ast.Attribute) and node.attr in LOOKS:
                holder = node.value
                name = getattr(holder, "id", getattr(holder, "attr", ""))
                if name not in ("files", "_files"):
                    wrong.append(f"{path.name}:{node.lineno}: {name}.{node.attr}")
    assert num_readers >= 15
    assert not wrong, "these files would not be recorded"


def test_a_dangling_link_hides_no_change_of_the_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    there = tmp_path / "tree" / "a.json"
    there.write_text("x")
    (tmp_path / "tree" / "b.json").symlink_to(tmp_path / "gone.json")
    files = Files(tmp_path)
    files.record_tree("tree")
    assert unchanged(files.inputs)
    there.write_text("longer")
    assert not unchanged(files.inputs)
    there.write_text("x")
    files = Files(tmp_path)
    files.record_tree("tree")
    (tmp_path / "gone.json").write_text("back")
    assert not unchanged(files.inputs)
