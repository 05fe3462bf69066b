"""Malformed rows are counted skips up to a share of the rows; above it the run stops."""

import json
from collections.abc import Callable, Container, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from data_modules.annotation_files import MAX_LINE_BYTES, read_csv_rows
from data_modules.corpora import CorpusConfig, DataConfig
from data_modules.corpus_index import open_corpora
from data_modules.files import Files
from data_modules.json_files import read_json_array, read_json_lines
from data_modules.readers import READERS
from data_modules.rows import MalformedRowError, Row
from data_modules.skipped_rows import SkippedRows, examples_of
from vidreason.example import Example

LENIENT = {"max_malformed_fraction": 1.0}


def example(name: str) -> Example:
    return Example(
        id=name, corpus="star", media="a.mp4", video_id="a", prompt="What?", response=name
    )


def numbers(count: int, malformed: Container[int]) -> Iterator[Row]:
    for number in range(count):
        yield Row({"qid": number, "ok": number not in malformed}, f"f.json:{number + 1}")


def make(row: Row) -> Iterator[Example]:
    yield example(f"{row['qid']}a")
    if not row["ok"]:
        raise row.malformed("field 'ok' is false")
    yield example(f"{row['qid']}b")


def test_a_malformed_row_gives_no_example_and_the_rows_after_it_are_read() -> None:
    skipped = SkippedRows(**LENIENT)
    examples = list(examples_of(numbers(4, {1}), make, skipped, named_by=("video", "qid")))
    assert [one.id for one in examples] == ["0a", "0b", "2a", "2b", "3a", "3b"]
    assert (skipped.num_read, skipped.num_malformed, skipped.num_rows) == (3, 1, 4)
    assert skipped.malformed == ["f.json:2 (qid 1): field 'ok' is false"]


def test_without_a_share_the_first_malformed_row_is_raised() -> None:
    with pytest.raises(MalformedRowError, match=r"^f.json:3 \(qid 2\): field 'ok' is false$"):
        list(examples_of(numbers(4, {2}), make, SkippedRows(), named_by=("qid",)))


def test_a_row_with_nothing_to_teach_is_left_out_and_not_malformed() -> None:
    def unusable(row: Row) -> Iterator[Example]:
        if not row["ok"]:
            raise row.unusable("its span is empty")
        yield example(str(row["qid"]))

    skipped = SkippedRows()
    examples = list(examples_of(numbers(5, {0, 1, 3}), unusable, skipped))
    assert [one.id for one in examples] == ["2", "4"]
    assert skipped.causes == {"its span is empty": 3}
    skipped.check_malformed(0.0)


@pytest.mark.parametrize("text", ["\ud83d", "a\0b", "x\udcffy"])
@pytest.mark.parametrize("field", ["id", "media", "video_id", "prompt", "response", "group_id"])
def test_an_example_that_no_file_can_hold_is_malformed(field: str, text: str) -> None:
    def make_one(row: Row) -> list[Example]:
        return [replace(example(str(row["qid"])), **{field: "v"} if row["ok"] else {field: text})]

    skipped = SkippedRows(**LENIENT)
    assert len(list(examples_of(numbers(3, {1}), make_one, skipped))) == 2
    assert skipped.malformed[0].startswith("f.json:2: a text holds")


def test_repeated_ids_are_malformed_rows_where_a_reader_asks_for_it() -> None:
    rows = [*numbers(3, set()), *numbers(2, set())]
    skipped = SkippedRows(**LENIENT)
    examples = list(examples_of(rows, make, skipped, unique=True))
    assert [one.id for one in examples] == ["0a", "0b", "1a", "1b", "2a", "2b"]
    assert skipped.malformed[0] == "f.json:1: the id '0a' is there twice: keep one of the two rows"
    assert len(list(examples_of(rows, make, SkippedRows()))) == 10


@pytest.mark.parametrize(
    ("rows", "malformed", "fraction", "is_refused"),
    [
        (3, 1, 0.001, False),  # one row may always be
        (3, 2, 0.001, True),
        (3, 1, 0.0, True),
        (10_000, 10, 0.001, False),
        (10_000, 11, 0.001, True),
        (10, 5, 0.5, False),
        (10, 6, 0.5, True),
    ],
)
def test_the_share_of_malformed_rows(
    rows: int, malformed: int, fraction: float, is_refused: bool
) -> None:
    skipped = SkippedRows(**LENIENT)
    skipped.num_read = rows - malformed
    for number in range(malformed):
        skipped.record_malformed(MalformedRowError(f"f:{number}", "wrong"))
    again = SkippedRows.from_json(json.loads(json.dumps(skipped.as_json())))
    for counts in (skipped, again):
        if not is_refused:
            counts.check_malformed(fraction)
            continue
        with pytest.raises(ValueError, match=r"data.max_malformed_fraction is") as caught:
            counts.check_malformed(fraction)
        first, *lines = str(caught.value).splitlines()
        assert first.startswith(f"{malformed} of {rows} rows of the corpus are malformed")
        assert lines == [f"  f:{number}: wrong" for number in range(min(malformed, 10))]


def test_a_hopeless_file_is_not_read_to_its_end() -> None:
    skipped = SkippedRows(max_malformed_fraction=0.001)
    rows = numbers(10**9, range(10**9)[::2])  # every second one
    with pytest.raises(ValueError, match=r"^1000 of 1999 rows read so far are malformed"):
        list(examples_of(rows, make, skipped))
    clustered = SkippedRows(max_malformed_fraction=0.2)
    list(examples_of(numbers(5000, range(999)), make, clustered))
    clustered.check_malformed(0.2)


READ: dict[str, Callable[..., Iterator[Row]]] = {
    "csv": lambda files, name, skipped: read_csv_rows(files, name, ("a", "b"), skipped),
    "lines": read_json_lines,
    "array": read_json_array,
}
CSV = b"a,b\n1,x\n2,y\n3,z\n"
LINES = b'{"a": 1}\n{"a": 2}\n{"a": 3}\n'


@pytest.mark.parametrize(
    ("read", "text", "kept", "num_malformed", "message"),
    [
        ("csv", CSV.replace(b"2,y", b"2,\xff"), "13", 1, r":3: byte 3 of the line is 0xff"),
        ("csv", CSV.replace(b"2,y", b"2,\0"), "13", 1, r":3: the line holds a null byte"),
        ("csv", CSV.replace(b"2,y", b"2,y,z"), "13", 1, r":3: expected 2 columns .*, found 3"),
        ("csv", CSV.replace(b"2,y", b"2"), "13", 1, r":3: expected 2 columns .*, found 1"),
        ("csv", CSV.replace(b"2,y", b'2,"y"y'), "13", 1, r":3: not a valid CSV row"),
        ("csv", CSV.replace(b"2,y", b"2," + b"y" * MAX_LINE_BYTES), "13", 1, r":3: the line is lo"),
        # A quote that swallows a row loses two.
        ("csv", CSV.replace(b"1,x", b'1,"x').replace(b"2,y", b'2,"y'), "3", 2, r":2: not a valid"),
        ("csv", CSV.replace(b"2,y", b"2,y,,"), "123", 0, ""),  # blank cells of a table program
        ("csv", CSV + b",\n , \n\n", "123", 0, ""),
        ("csv", CSV.replace(b"a,b", b"a, b ,c,d"), "", 3, r":2: expected 4 columns"),
        ("lines", LINES.replace(b'{"a": 2}', b'{"a": 2'), "13", 1, r":2: not valid JSON"),
        ("lines", LINES.replace(b'{"a": 2}', b"\xff"), "13", 1, r":2: byte 1 .* not UTF-8"),
        ("lines", LINES.replace(b'{"a": 2}', b"[2]"), "13", 1, r":2: expected a JSON object"),
        ("lines", LINES.replace(b"2", b"[" * 10**5), "13", 1, r":2: not valid JSON: .*recursion"),
        ("lines", LINES.replace(b"2", b"9" * 5000), "13", 1, r":2: not valid JSON: .*digits"),
        ("lines", LINES.replace(b"2", b'"' + b"y" * MAX_LINE_BYTES + b'"'), "13", 1, ":2: the lin"),
        ("array", b'[{"a": 1},\n7,\nnull, {"a": 3}]', "13", 2, r":2: expected a JSON object"),
    ],
)
def test_a_damaged_part_of_a_file_is_a_malformed_row(
    tmp_path: Path, read: str, text: bytes, kept: str, num_malformed: int, message: str
) -> None:
    path = tmp_path / "rows"
    path.write_bytes(text)
    skipped = SkippedRows(**LENIENT)
    rows = list(READ[read](Files(tmp_path), "rows", skipped))
    assert "".join(str(row["a"]) for row in rows) == kept
    assert skipped.num_malformed == num_malformed
    if message:
        with pytest.raises(ValueError, match=f"{path}{message}"):
            list(READ[read](Files(tmp_path), "rows", SkippedRows()))
        assert skipped.malformed[0].startswith(str(path))


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        ("csv", b"", r"rows:1: the header has no column 'a', 'b'"),
        ("csv", b"b,c\n1,2\n", r"rows:1: the header has no column 'a'"),
        ("csv", CSV.replace(b"2,y", b'2,"y'), r"rows:3: not a valid CSV row: unexpected end"),
        ("csv", CSV[:-1], r"rows:4: the last row has no line end"),
        ("lines", LINES[:-3], r"rows:3: not valid JSON"),
        ("lines", b'[\n{"a": 1}\n]\n', r"rows:1: expected one JSON object a line, found one doc"),
        ("lines", b'{\n"a": 1}\n', r"rows:1: expected one JSON object a line, found one document"),
        ("lines", b"x" * (9 * MAX_LINE_BYTES), r"rows:1: the line is longer than"),
        ("array", b'[{"a": 1},', r"rows:1: not valid JSON"),
        ("array", b'[{"a": 1}, {"a"}]', r"rows:1: not valid JSON"),
        ("array", b'{"a": 1}', r"rows:1: expected a JSON array"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_an_error_at_once(
    tmp_path: Path, read: str, text: bytes, message: str
) -> None:
    path = tmp_path / "rows"
    path.write_bytes(text)
    skipped = SkippedRows(**LENIENT)
    with pytest.raises(ValueError, match=message):
        list(READ[read](Files(tmp_path), "rows", skipped))
    assert skipped.num_malformed == 0


def write_star(root: Path, answers: list[str]) -> CorpusConfig:
    rows = [
        {"question_id": f"Interaction_T1_{number}", "question": "Which?", "video_id": "A"}
        | {"choices": [{"choice": "x"}, {"choice": "y"}], "answer": answer}
        for number, answer in enumerate(answers)
    ]
    (root / "STAR_val.json").write_text(json.dumps(rows))
    return CorpusConfig(reader="star", root=str(root), split="val")


def test_the_share_is_checked_whenever_a_corpus_is_opened_and_needs_no_new_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path / "cache"))
    config = write_star(tmp_path, ["x"] * 8 + ["z"] * 2)
    assert open_corpora([config], 0.2).sizes == [8]

    def refuse(*_: object, **__: object) -> Iterator[Example]:
        raise AssertionError("the files were read again")

    monkeypatch.setitem(READERS, "star", READERS["star"]._replace(read=refuse))
    with pytest.raises(ValueError, match=r"'star', split 'val' in .*: 2 of 10 rows") as caught:
        open_corpora([config])
    assert "STAR_val.json:1 (question_id 'Interaction_T1_8'): field 'answer' is 'z'" in str(
        caught.value
    )
    (corpus,) = open_corpora([config], 0.5).corpora
    assert (corpus.skipped.num_malformed, corpus.skipped.num_rows) == (2, 10)


def test_a_corpus_of_malformed_rows_only_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path / "cache"))
    config = write_star(tmp_path, ["z"] * 3)
    with pytest.raises(ValueError, match=r"(?s)has no example; .*3 x malformed.*'Interaction_T1_2"):
        open_corpora([config])


def test_the_share_is_one() -> None:
    assert DataConfig().max_malformed_fraction == 0.001
    with pytest.raises(ValueError, match=r"data.max_malformed_fraction is 1.5; it must be"):
        DataConfig(max_malformed_fraction=1.5)
