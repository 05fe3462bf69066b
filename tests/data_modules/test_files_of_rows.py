"""Questions and captions in files of one's own, as people and table programs write them."""

import json
from pathlib import Path

import pytest
from tiny_corpora import examples_in

from data_modules.skipped_rows import SkippedRows

OWN = {"media": "clip", "prompt": "ask", "options": "A, B, C", "response": "right"}
TABLE = 'clip,ask,A,B,C,right\nx.mp4,"Which, then?",None,NA,007,C\ny.mp4,How many?,1,2.50,,2.50\n'


def test_a_table_is_read_as_it_is_written_however_it_was_saved(tmp_path: Path) -> None:
    """Byte-order marks, line ends, numbers, and words that table programs take for nothing."""
    path = tmp_path / "own.csv"
    for content in (TABLE, f"\ufeff{TABLE}", TABLE.replace("\n", "\r\n"), f"{TABLE}\n,,,,,\n"):
        path.write_bytes(content.encode())
        first, second = examples_in("huggingface", tmp_path, "own", columns=OWN)
        assert (first.options, first.answer_index) == (("None", "NA", "007"), 2)
        assert (second.options, second.response) == (("1", "2.50"), "2.50")
        assert first.id == "huggingface:own:0"


def test_a_damaged_line_of_a_file_is_counted_and_named(tmp_path: Path) -> None:
    row = json.dumps({"media": "a.mp4", "response": "A dog."})
    for name, content, message in (
        ("own.jsonl", f"{row}\n{{not json}}\n\n[1]\n{row}\n", "own.jsonl:2: not valid JSON"),
        ("own.json", f"[{row},\n 3,\n null,\n{row}]", "own.json:2: expected a JSON object"),
        ("own.json", f"{row}\n{{not json}}\n7\n{row}\n", "own.json:2: not valid JSON"),
        ("own.csv", "media,response\na,A dog.\nb,c,d\nc\nd,x\n", "own.csv:3: expected 2 columns"),
        (
            "own.csv",
            "media,response\na,A dog.\nb,h\udce9\nc,\udce9\nd,x\n",
            "is 0xe9, which",
        ),
    ):
        (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
        skipped = SkippedRows(max_malformed_fraction=0.9)
        first, last = examples_in("huggingface", tmp_path, "own", skipped)
        assert (first.response, last.id) == ("A dog.", "huggingface:own:1")
        assert skipped.num_malformed == 2, name
        assert message in skipped.malformed[0]
        (tmp_path / name).unlink()


def test_a_file_without_rows_or_columns_says_so(tmp_path: Path) -> None:
    for name, content, message in (
        ("own.jsonl", "", "own.jsonl has no rows"),
        ("own.jsonl", "\n\n", "own.jsonl has no rows"),
        ("own.json", "[]", "own.json has no rows"),
        ("own.csv", "", r"own.csv:?.* (has no rows|an empty file)"),
        ("own.csv", "media,response\n", "own.csv has no rows"),
        ("own.csv", "media;response\na;b\n", "no column 'media'.* separated by ',', not ';'"),
        ("own.jsonl", '{"data": [{"media": "a"}]}\n', "no column 'media'; found data: map"),
        ("own.parquet", "PAR1", "own.parquet: not a sound parquet file"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            examples_in("huggingface", tmp_path, "own")
        (tmp_path / name).unlink()


def test_options_and_answers_in_the_forms_that_files_have(tmp_path: Path) -> None:
    base = {"media": "a.mp4", "prompt": "How many?"}
    for fields, options, index in (
        ({"options": [1, 2, 3], "answer_index": 2}, ("1", "2", "3"), 2),
        ({"options": [1, 2, 3], "response": 2}, ("1", "2", "3"), 1),
        ({"options": ["A. one", "B. two"], "response": "B"}, ("one", "two"), 1),
        ({"options": ["one", "two"], "answer_index": "1"}, ("one", "two"), 1),
        ({"options": ["one", "two"], "answer_index": "B"}, ("one", "two"), 1),
        ({"options": ["one", "two"], "answer_index": 0}, ("one", "two"), 0),
        ({"options": ["one", "two"], "answer_index": ""}, ("one", "two"), None),
    ):
        (tmp_path / "own.jsonl").write_text(json.dumps(base | fields) + "\n")
        (example,) = examples_in("huggingface", tmp_path, "own")
        assert (example.options, example.answer_index) == (options, index), fields
    (tmp_path / "own.jsonl").unlink()
    (tmp_path / "own.csv").write_text("clip,ask,A,B,C,right\nx.mp4,Why?,rain,,wind,C\n")
    with pytest.raises(ValueError, match=r"own.csv:2: field 'options': an option is empty"):
        examples_in("huggingface", tmp_path, "own", columns=OWN)
    (tmp_path / "own.csv").write_text("clip,ask,A,B,C,right\nx.mp4,Why?,rain,snow,wind,3\n")
    with pytest.raises(ValueError, match=r"own.csv:2: .*'3'.* by its index, which counts from 0"):
        examples_in(
            *("huggingface", tmp_path, "own"),
            columns=OWN | {"answer_index": "right"},
        )
