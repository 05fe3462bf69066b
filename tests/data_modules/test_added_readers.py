"""A reader of an installed package stands beside those of this project."""

from pathlib import Path

import pytest
from installed_package import install_examples, install_points

from data_modules.corpora import BUILT_IN_READERS, READER_GROUP, CorpusConfig
from data_modules.corpus_index import open_corpora
from data_modules.readers import reader_named
from vidreason.added_parts import added_parts
from vidreason.config import merge_config


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, points: dict[str, str]) -> None:
    install_points(folder, monkeypatch, {READER_GROUP: points})


def test_the_example_package_reads_its_format(tmp_path, monkeypatch):
    (name,) = install_examples(tmp_path, monkeypatch, ("my_corpus",))[READER_GROUP]
    (tmp_path / "train.txt").write_text(
        "a.mp4: why does it stop? the wall blocks it\nb.mp4: what is it? a ball\nno form at all\n"
    )
    config = CorpusConfig(reader=name, root=str(tmp_path))
    examples = list(open_corpora([config], 0.5))
    assert [(one.id, one.prompt, one.response, one.media) for one in examples] == [
        ("colon_lines:train:1", "why does it stop?", "the wall blocks it", f"{tmp_path}/a.mp4"),
        ("colon_lines:train:2", "what is it?", "a ball", f"{tmp_path}/b.mp4"),
    ]
    with pytest.raises(ValueError, match=r"train.txt:3: expected 'clip.mp4: question\? answer'"):
        open_corpora([config], 0.0)


def test_a_name_that_nobody_has_is_refused_with_a_similar_one(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, {"colon_lines": "absent:READER"})
    with pytest.raises(ValueError, match=r"'nextqq'.*did you mean nextqa\? Known are webvid, "):
        CorpusConfig(reader="nextqq", root="r")
    with pytest.raises(ValueError, match=r"corpora.*|reader is 'colon_line'.*colon_lines"):
        merge_config(CorpusConfig, [], ["reader=colon_line", "root=r"])


READER = "from data_modules.readers import Reader; READER = Reader("


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("raise RuntimeError('broken')", "cannot be imported: broken"),
        ("READER = 5", r"is a int; it has to be a data_modules\.readers\.Reader"),
        ("", "cannot be imported: .*READER"),
        (READER + "lambda files: [], 'free')", r"its read takes \(files\), and is called as Read"),
        (READER + "5, 'free')", r"its read is a int; give it a function that is called as ReadF"),
        (READER + "lambda *all: [], 5)", "its licence is 5 and its version 1; give it a text"),
        (READER + "lambda a, b, c, d: [], 'free')", "missing a required argument: 'd'"),
    ],
)
def test_a_package_that_is_none_is_named(content, message, tmp_path, monkeypatch):
    (tmp_path / "odd_reader.py").write_text(content)
    install(tmp_path, monkeypatch, {"odd": "odd_reader:READER"})
    with pytest.raises(ValueError, match=f"the entry point odd = 'odd_reader:READER' .*{message}"):
        list(open_corpora([CorpusConfig(reader="odd", root=str(tmp_path))]))


def test_no_package_replaces_a_reader_of_this_project(tmp_path, monkeypatch):
    (tmp_path / "thief.py").write_text("READER = 5")
    install(tmp_path, monkeypatch, {"webvid": "thief:READER"})
    assert not added_parts(READER_GROUP, BUILT_IN_READERS)
    assert "webvid" in BUILT_IN_READERS
    assert reader_named("webvid").licence.startswith("research only")
