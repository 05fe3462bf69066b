"""The reader of an instruction set respects the reviews beside it, and its index notices them."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from tiny_corpora import examples_in

from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_corpora
from data_modules.reviewed_rows import CONTRADICTED, EDITED, REJECTED, STALE
from data_modules.skipped_rows import SkippedRows
from vidreason.reasoning.outcomes import Outcome, outcome_of, true_futures_of
from vidreason.teacher.reviews import row_sha


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path_factory.mktemp("cache")))


ROWS = [
    {"id": f"r{number}", "video_id": "v", "causal_explanation": [f"Ball {number} rolls."]}
    for number in range(5)
]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def review(number: int, decision: str, reviewer: str = "ann", **further: Any) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "row_sha": row_sha(ROWS[number]),
        "decision": decision,
        "reviewer": reviewer,
        "reviewed_at": "2026-02-01T10:00:00Z",
    } | further


def edit(number: int, text: str, reviewer: str = "ann") -> dict[str, Any]:
    return review(number, "edit", reviewer, steps=[{"text": text}], predictions=[])


def test_rows_are_left_out_and_edited_and_all_is_counted(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", ROWS)
    reject = review(1, "reject", reason="unclear")
    first = [review(0, "accept"), reject, edit(2, "It was kicked."), edit(4, "One.")]
    stale = review(3, "reject", reason="other") | {"row_sha": "0" * 64}
    write_lines(tmp_path / "reviews/review-ann.jsonl", [*first, stale])
    write_lines(tmp_path / "reviews/review-bob.jsonl", [edit(4, "Another.", "bob")])
    (tmp_path / "reviews/notes.txt").write_text("no review")
    skipped = SkippedRows()
    examples = examples_in("causal_vid_instruct", tmp_path, "train", skipped)
    assert {e.id.split(":")[2]: e.response for e in examples} == {
        "r0": "1. Ball 0 rolls.",
        "r2": "1. It was kicked.",
        "r3": "1. Ball 3 rolls.",
    }
    assert skipped.causes == {REJECTED: 1, CONTRADICTED: 1}
    assert skipped.remarks == {EDITED: 1, STALE: 1}
    assert skipped.num_malformed == 0


def test_an_edit_leaves_what_really_came_next(tmp_path: Path) -> None:
    outcome = {"text": "It stops", "kind": "block", "seconds": 1}
    futures = [{"text": "It stops", "probability": 1.0, "seconds": 1}]
    more = {"prediction": "It flies", "outcome": outcome, "futures": futures}
    rows = [ROWS[0] | more, ROWS[1] | more]
    write_lines(tmp_path / "train.jsonl", rows)
    predicted = [{"text": "It rests", "confidence": 0.5}]
    edits = [
        edit(0, "It was kicked.") | {"row_sha": row_sha(rows[0]), "predictions": predicted},
        edit(1, "It was kicked.") | {"row_sha": row_sha(rows[1])},
    ]
    write_lines(tmp_path / "reviews/a.jsonl", edits)
    first, prediction, second = examples_in("causal_vid_instruct", tmp_path, "train")
    assert first.response == second.response == "1. It was kicked."
    assert prediction.response.startswith("1. It rests")
    assert prediction.answers == ("It stops",)
    assert outcome_of(prediction.meta) == Outcome("It stops", "block", 1.0)
    assert len(true_futures_of(prediction.meta)) == 1


def test_a_damaged_review_file_stops_the_reader(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", ROWS)
    write_lines(tmp_path / "reviews/a.jsonl", [review(0, "reject", reason="bad mood")])
    config = CorpusConfig(reader="causal_vid_instruct", root=str(tmp_path), split="train")
    with pytest.raises(ValueError, match=r"reviews/a.jsonl:1: field 'reason' is 'bad mood'"):
        open_corpora([config], max_malformed_fraction=0.5)


def test_the_index_notices_reviews(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "set"
    write_lines(root / "train.jsonl", ROWS)
    config = CorpusConfig(reader="causal_vid_instruct", root=str(root), split="train")

    def responses() -> list[str]:
        return [example.response for example in open_corpora([config]).corpora[0]]

    assert len(responses()) == 5
    rejected = review(1, "reject", reason="unclear")
    write_lines(root / "reviews/a.jsonl", [rejected])
    with caplog.at_level(logging.WARNING):
        assert len(responses()) == 4
    assert "1 rows were left out, besides 4 examples: 1 x rejected by a reviewer" in caplog.text
    write_lines(root / "reviews/a.jsonl", [rejected, edit(2, "It was kicked.")])
    assert responses()[1] == "1. It was kicked."
    write_lines(root / "reviews/b.jsonl", [review(2, "reject", "bob", reason="harmful")])
    assert len(responses()) == 3
    for name in ("a", "b"):
        (root / f"reviews/{name}.jsonl").unlink()
    assert len(responses()) == 5
