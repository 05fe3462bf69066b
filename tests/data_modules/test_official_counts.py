"""Rows that could be read, beside those that the released benchmarks have."""

import json
from pathlib import Path

import pytest

from data_modules.corpora import CorpusConfig, DataConfig
from data_modules.corpus_index import open_corpora
from data_modules.data_check import DataCheckConfig, DataReport, check_data
from data_modules.official_counts import coverage, incomplete_corpora
from data_modules.readers import READERS
from data_modules.rows import MalformedRowError
from data_modules.skipped_rows import SkippedRows
from experiments.data.report import report_text


def counts(num_read: int, num_malformed: int = 0) -> SkippedRows:
    skipped = SkippedRows(max_malformed_fraction=1.0, quiet=True)
    skipped.num_read = num_read
    for number in range(num_malformed):
        skipped.record_malformed(MalformedRowError(f"f:{number}", "wrong"))
    return skipped


@pytest.mark.parametrize(
    ("skipped", "limit", "text", "is_complete"),
    [
        (counts(8564), None, "8,564 of 8,564 official questions", True),
        (counts(8563, 1), None, "8,563 of 8,564 official questions", False),
        (counts(8000), None, "8,000 of 8,564 official questions", False),  # a file that was cut
        (counts(8600), None, "8,600 of 8,564 official questions", False),
        (counts(60), None, "60 of 60 questions of its files", True),  # other data in its format
        (counts(59, 1), None, "59 of 60 questions of its files", False),
        (counts(6000), 6000, "6,000 of 6,000 questions of its files", True),  # cut on purpose
    ],
)
def test_coverage(skipped: SkippedRows, limit: int | None, text: str, is_complete: bool) -> None:
    config = CorpusConfig(reader="nextqa", root="r", split="test", limit=limit)
    covered = coverage(config, skipped)
    assert (str(covered), covered.is_complete) == (text, is_complete)


def write_star(root: Path, num_rows: int, num_malformed: int = 0) -> None:
    root.mkdir(exist_ok=True)
    rows = [
        {"question_id": f"Interaction_T1_{number}", "question": "Which?", "video_id": "A"}
        | {"choices": [{"choice": "x"}, {"choice": "y"}]}
        | {"answer": "z" if number < num_malformed else "x"}
        for number in range(num_rows)
    ]
    (root / "STAR_val.json").write_text(json.dumps(rows))


def of_ten_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, "star", READERS["star"]._replace(num_questions={"val": 10}))


def test_incomplete_corpora_of_an_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path / "cache"))
    of_ten_questions(monkeypatch)
    configs = [CorpusConfig(reader="star", root=str(tmp_path / "star"), split="val")]
    write_star(tmp_path / "star", 10, 1)
    skipped = [corpus.skipped for corpus in open_corpora(configs).corpora]
    assert incomplete_corpora(configs, skipped) == {"star": "9 of 10 official questions"}
    write_star(tmp_path / "star", 10)
    skipped = [corpus.skipped for corpus in open_corpora(configs).corpora]
    assert incomplete_corpora(configs, skipped) == {}


@pytest.mark.parametrize(
    ("num_rows", "num_malformed", "row", "problem"),
    [
        (10, 0, "10 of 10 official", ""),
        (10, 1, "9 of 10 official", ""),
        (9, 0, "9 of 10 official", r"9 rows, but the released split has 10: fetch its files again"),
        (3, 0, "3 of 3", ""),
        (10, 2, "8 of 10 official", r"2 of 10 rows of the corpus are malformed"),
    ],
)
def test_data_check_compares_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    num_rows: int,
    num_malformed: int,
    row: str,
    problem: str,
) -> None:
    of_ten_questions(monkeypatch)
    write_star(tmp_path, num_rows, num_malformed)
    data = DataConfig(benchmark=[CorpusConfig(reader="star", root=str(tmp_path), split="val")])
    data.max_unreadable_fraction = 1.0  # there are no videos
    report: DataReport = check_data(data, DataCheckConfig(), tmp_path / "check")
    assert f"  {row}  " in report_text(report)
    if problem:
        assert len(report.problems) == 1
        assert problem in report.problems[0]
    else:
        assert report.problems == []
    shown = [line for line in report_text(report).splitlines() if "malformed: " in line]
    assert len(shown) == num_malformed
