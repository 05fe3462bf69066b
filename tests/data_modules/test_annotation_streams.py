"""Annotation files are read as streams: in pieces, in flat memory, to the same values."""

import json
import random
import tracemalloc
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from data_modules import annotation_files, json_files
from data_modules.annotation_files import read_csv_rows
from data_modules.files import Files
from data_modules.json_files import (
    read_json_array,
    read_json_lines,
    read_json_members,
    read_json_object,
)
from data_modules.readers import READERS
from data_modules.rows import Row, UnusableRowError
from data_modules.skipped_rows import MAX_TEXT_CHARACTERS, SkippedRows

HERE = Files("")


def array(path: Path) -> list[Row]:
    return list(read_json_array(HERE, path, SkippedRows()))


def csv_rows(path: Path, *required: str) -> list[Row]:
    return list(read_csv_rows(HERE, path, required, SkippedRows()))


def random_value(generator: random.Random, depth: int = 0) -> Any:
    kind = generator.randrange(7 if depth < 3 else 5)
    if kind == 0:
        return generator.choice([None, True, False])
    if kind == 1:
        return generator.randrange(-(10**6), 10**9)
    if kind == 2:
        return generator.uniform(-1e6, 1e6)
    if kind < 5:
        letters = 'ab "\\\n\t{}[],:\u00e9\U0001f600'
        return "".join(generator.choices(letters, k=generator.randrange(30)))
    values = [random_value(generator, depth + 1) for _ in range(generator.randrange(5))]
    return values if kind == 5 else {f"k{k}": value for k, value in enumerate(values)}


@pytest.mark.parametrize("chunk", [1, 2, 7, 50, 10**6])
def test_documents_are_the_same_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(json_files, "_CHUNK_CHARACTERS", chunk)
    generator = random.Random(chunk)
    for indent in (None, 2):
        rows = [{"a": random_value(generator), "b": random_value(generator)} for _ in range(20)]
        path = tmp_path / "rows.json"
        path.write_text(json.dumps(rows, indent=indent, ensure_ascii=indent is None))
        assert array(path) == rows
        members = {f"\u00e9{number}": random_value(generator) for number in range(20)}
        path.write_text(json.dumps(members, indent=indent))
        assert read_json_object(HERE, path) == members
    path.write_text("[\n]\n")
    assert array(path) == []


def test_locations_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('\n[{"a":\n1},\n\n{"b": 2}, {"c": 3}]')
    assert [row.location for row in array(path)] == [f"{path}:{n}" for n in (2, 5, 5)]
    path.write_text('{"a":\n1,\n"b": 2}')
    assert [row.location for row in read_json_members(HERE, path)] == [
        f"{path}:{n}" for n in (1, 3)
    ]


def test_nan_is_null_and_infinity_no_number_of_seconds(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"a": NaN, "b": -Infinity}]')
    (row,) = array(path)
    assert row["a"] is None
    with pytest.raises(UnusableRowError, match=r"rows.json:1: its span is no number of seconds"):
        row.seconds("b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"rows.json:1: expected a JSON array of objects, found its end; the file may be cut"),
        ("{}", r"rows.json:1: expected a JSON array of objects, found '{}'"),
        ("[1]", r"rows.json:1: expected a JSON object, found int"),
        ('[{"a": 1}\n {"b": 2}]', r"rows.json:2: not valid JSON: expected ',' or ']', found"),
        ('[{"a": 1},\n]', r"rows.json:2: not valid JSON: Expecting value"),
        ('[{"a": 1}]\n[]', r"rows.json:2: not valid JSON: '\[\]' follows the closing bracket"),
        ('[\n{"a": "never closed}]', r"rows.json:2: not valid JSON: Unterminated string"),
        ('[{"a": ' + "[" * 100_000, r"rows.json:1: not valid JSON: .*recursion"),
        ('[{"a": ' + "9" * 5000 + "}]", r"rows.json:1: not valid JSON: .*digits"),
    ],
)
def test_arrays_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        array(path)


def test_an_error_in_a_large_file_does_not_read_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    row = json.dumps({"a": "x" * 1000})
    path.write_text(f"[{row},\n{{'wrong'}},\n" + ",\n".join([row] * 20_000) + "]")
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"rows.json:2: not valid JSON: Expecting property name"):
        array(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6  # of 20 MB


def test_memory_does_not_grow_with_the_number_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_files, "_CHUNK_CHARACTERS", 2**15)  # of JSON, so much is held twice
    text = "a caption of a video, long enough to be a caption " * 10
    rows = [json.dumps({"a": text, "b": number}) for number in range(3_000)]
    (tmp_path / "train.csv").write_text(
        "videoid,name,page_dir\n" + "".join(f'{n},"{text}",p\n' for n in range(len(rows)))
    )
    (tmp_path / "rows.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "rows.json").write_text("[" + ",".join(rows) + "]")
    readers = {
        "train.csv": lambda: READERS["webvid"].read(Files(tmp_path), "train", SkippedRows()),
        "rows.jsonl": lambda: read_json_lines(HERE, tmp_path / "rows.jsonl", SkippedRows()),
        "rows.json": lambda: read_json_array(HERE, tmp_path / "rows.json", SkippedRows()),
    }
    for name, read in readers.items():
        assert (tmp_path / name).stat().st_size > 1.5e6
        list(islice(read(), 10))  # what is loaded once
        tracemalloc.start()
        assert sum(1 for _ in read()) == len(rows)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 0.3e6, name


def test_csv_quotes_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('b,a\n"one ""two""\nthree, four",x\n\nNone,"NA"\n')
    rows = csv_rows(path, "a", "b")
    assert rows == [{"b": 'one "two"\nthree, four', "a": "x"}, {"b": "None", "a": "NA"}]
    assert [row.location for row in rows] == [f"{path}:2", f"{path}:5"]
    path.write_text("a,b,a\n1,2,3\n")
    with pytest.raises(ValueError, match=r"a.csv:1: the header names 'a' twice"):
        csv_rows(path, "a", "b")
    path.write_text("a,b\n1,2")
    with pytest.raises(ValueError, match=r"a.csv:2: the last row has no line end: .* within '2'"):
        csv_rows(path, "a", "b")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_documented_limits_hold(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.csv"
    long = "x" * (MAX_TEXT_CHARACTERS - 1)
    rows = [["videoid", "name"], ["1", "a"], ["02", f'"{long},"'], ["3", f'"b{end}""c"""']]
    path.write_bytes("".join(",".join(row) + end for row in rows).encode())
    rows = csv_rows(path, "videoid", "name")
    assert [row["name"] for row in rows] == ["a", f"{long},", f'b{end}"c"']
    assert [row.location for row in rows] == [f"{path}:{line}" for line in (2, 3, 4)]
    lines = tmp_path / "a.jsonl"
    lines.write_bytes(end.join(json.dumps({"a": n, "b": long}) for n in range(3)).encode())
    assert [row["a"] for row in read_json_lines(HERE, lines, SkippedRows())] == [
        0,
        1,
        2,
    ]  # the last without an end
    path.write_text(f"videoid,name\n1,{long}xx\n2,b\n")
    with pytest.raises(ValueError, match=r"a.csv:2: .*field limit \(1048576\)"):
        csv_rows(path, "videoid", "name")


def test_line_ends_where_pieces_of_the_file_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = random.Random(0)
    path = tmp_path / "a.txt"
    for chunk in (1, 2, 3, 7):
        monkeypatch.setattr(annotation_files, "_CHUNK_BYTES", chunk)
        content = "".join(generator.choices(["a", "\r", "\n", "\r\n", "\u00e9"], k=200))
        path.write_bytes(content.encode())
        expected = content.encode().splitlines(keepends=True)
        lines = list(annotation_files.read_raw_lines(HERE, path))
        assert lines == list(enumerate(expected, start=1))
