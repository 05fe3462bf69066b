"""Predictions on the disk while they are made: torn lines, repeated rows, other manifests."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vidreason.evaluation.manifest import Manifest
from vidreason.evaluation.predictions.kept import KeptPredictions, merge_predictions
from vidreason.evaluation.predictions.row_files import read_predictions, read_predictions_file
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, grade

ROWS = [
    grade(BenchmarkPrediction(id=f"q{number}", corpus="c", video_id="v", output=f"\u00e9 {number}"))
    for number in range(6)
]
IDS = [row.id for row in ROWS]
MANIFEST = Manifest(model="m", answering={"decoding": {"max_new_tokens": 4}})


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., KeptPredictions]:
    """Another process' view of the same predictions."""
    starts = iter(range(100))

    def make(manifest: Manifest = MANIFEST) -> KeptPredictions:
        monkeypatch.setattr(
            f"{KeptPredictions.__module__}.process_name", lambda: f"p{next(starts)}"
        )
        return KeptPredictions(tmp_path / "predictions-none.jsonl", manifest)

    return make


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_does_not_tell_who_answered_when(start, tmp_path):
    alone = start()
    assert alone.recover() == set()
    alone.append(ROWS)
    assert alone.finish(IDS) == ROWS
    expected = alone.path.read_bytes()
    alone.path.unlink()
    first, second = start(), start()
    first.recover()
    second.append(ROWS[4:])
    first.append(ROWS[2:4])
    later = start()
    assert later.recover() == {"q2", "q3", "q4", "q5"}
    assert names(tmp_path) == ["predictions-none.p3.part"]
    later.append(ROWS[:2])
    assert later.finish(IDS) == ROWS
    assert names(tmp_path) == ["predictions-none.jsonl"]
    assert later.path.read_bytes() == expected
    assert read_predictions(later.path) == ROWS
    assert read_predictions_file(later.path).manifest == MANIFEST.as_json()


@pytest.mark.parametrize("num_lost", [1, 2, 30, 10_000])
def test_a_torn_line_is_dropped_and_said(start, tmp_path, capsys, num_lost):
    killed = start()
    killed.append(ROWS[:2])
    (part,) = tmp_path.glob("*.part")
    whole = part.read_bytes()
    part.write_bytes(whole[: -min(num_lost, len(whole) - 5)])
    later = start()
    assert later.recover() == ({"q0"} if num_lost < 10_000 else set())
    assert "left out the unfinished last line of 1 files" in capsys.readouterr().err
    later.append(ROWS[1:] if num_lost < 10_000 else ROWS)
    assert later.finish(IDS) == ROWS


def test_what_only_a_hand_can_damage_is_an_error(start, tmp_path):
    killed = start()
    killed.append(ROWS[:3])
    (part,) = tmp_path.glob("*.part")
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join([*lines[:2], lines[2][:-9] + b"\n", lines[3]]))
    with pytest.raises(ValueError, match=r"part:3: not valid JSON"):
        start().recover()


def test_answers_that_were_made_otherwise_are_not_gone_on_with(start, tmp_path):
    first = start()
    first.append(ROWS[:2])
    other = replace(MANIFEST, model="n", answering={"decoding": {"max_new_tokens": 8}})
    message = r"max_new_tokens: 4 and 8; model: 'm' and 'n'\): remove the folder .* run_dir"
    with pytest.raises(ValueError, match=message):
        start(other).recover()
    assert first.finish(["q0", "q1"]) == ROWS[:2]  # nothing was lost
    with pytest.raises(ValueError, match=message):
        start(other).recover()
    path = tmp_path / "predictions-none.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(ValueError, match="does not say what its answers were made with"):
        start().recover()


def test_a_manifest_changed_by_hand_is_refused(start, tmp_path):
    first = start()
    first.append(ROWS)
    first.finish(IDS)
    text = first.path.read_text()
    first.path.write_text(text.replace('"model": "m"', '"model": "n"'))
    with pytest.raises(ValueError, match="was changed by hand"):
        start(replace(MANIFEST, model="n")).recover()


def test_unreadable_videos_are_tried_again(start):
    first = start()
    first.append([replace(ROWS[0], error="disk"), *ROWS[1:]])
    assert first.finish(IDS)[0].error == "disk"
    second = start()
    assert second.recover() == set(IDS[1:])
    second.append(ROWS[:1])
    assert second.finish(IDS) == ROWS
    third = start()
    assert third.recover() == set(IDS)
    before = third.path.stat().st_mtime_ns
    assert third.finish(IDS) == ROWS
    assert third.path.stat().st_mtime_ns == before  # nothing to write


def test_rows_of_one_question_are_one_or_contradict():
    nan = replace(ROWS[0], option_log_likelihoods=(float("nan"),))
    slow = replace(nan, batch_seconds_share=9.0)
    broken = replace(ROWS[0], error="disk")
    assert merge_predictions([nan, json_copy(nan), slow, broken]) == [nan]
    assert merge_predictions([broken, ROWS[0]]) == [ROWS[0]]
    with pytest.raises(ValueError, match="'q0' was answered in two ways"):
        merge_predictions([ROWS[0], replace(ROWS[0], output="else")])


def json_copy(row: BenchmarkPrediction) -> BenchmarkPrediction:
    """The same numbers in other objects: not a number is not equal to another such."""
    return replace(row, option_log_likelihoods=tuple(json.loads("[NaN]")))


def test_answers_outlive_the_rules_by_which_they_were_scored(start):
    """Another parser needs no other answers: they are kept, and read by the new rules."""
    older = start(replace(MANIFEST, parser=1))
    older.append([replace(row, parsed="else", correct=True) for row in ROWS])
    later = start()
    assert later.recover() == set(IDS)
    assert later.finish(IDS) == ROWS
    assert read_predictions_file(later.path).manifest == MANIFEST.as_json()


def test_a_missing_answer_is_an_error(start):
    kept = start()
    kept.append(ROWS[1:])
    with pytest.raises(ValueError, match="1 missing"):
        kept.finish(IDS)
