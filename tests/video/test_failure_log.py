"""Unreadable videos are counted, written down once, and stop a run past the budget."""

import json
from pathlib import Path

import pytest

from vidreason.video.failures import (
    FailureLog,
    UnreadableVideosError,
    VideoFailure,
    VideoReadError,
)


def failure(number: int) -> VideoFailure:
    return VideoFailure(
        id=f"webvid:train:{number}",
        path=f"/v/{number}.mp4",
        cause="missing",
        detail="there is no such file",
    )


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_example_is_written_once_with_path_cause_and_time(tmp_path: Path) -> None:
    path = tmp_path / "run/failures.jsonl"
    log = FailureLog(path, max_unreadable_fraction=0.5, num_examples=10)
    log.record(4, [failure(1), failure(2)])
    log.record(4, [failure(1)])
    assert [row["id"] for row in rows(path)] == ["webvid:train:1", "webvid:train:2"]
    assert rows(path)[0].keys() == {"id", "path", "cause", "detail", "time"}
    assert rows(path)[0]["path"] == "/v/1.mp4"
    assert rows(path)[0]["time"].endswith("+00:00")
    assert (log.num_samples, log.num_unreadable) == (8, 3)


def test_passwords_in_urls_and_escapes_of_the_terminal_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    error = VideoReadError(
        "https://me:hunter22@h/\x1b[2J.mp4?sig=ab12", "unreachable", "403\x1b[1m"
    )
    assert "hunter22" not in str(error)
    with pytest.raises(UnreadableVideosError) as caught:
        FailureLog(path, 0.0, 1).record(1, [error.failure("\x1b]0;id\x07")])
    shown = str(caught.value)
    assert (
        r"such as \x1b]0;id\x07: https://[secret]@h/\x1b[2J.mp4?sig=[secret] (403\x1b[1m)" in shown
    )
    (row,) = rows(path)
    assert row["path"] == "https://[secret]@h/\x1b[2J.mp4?sig=[secret]"
    assert row["id"] == "\x1b]0;id\x07", "rows are found by their ids"


def test_a_resumed_run_and_another_rank_continue_the_file(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    first = FailureLog(path, 1.0, 10)
    other = FailureLog(path, 1.0, 10)
    first.record(1, [failure(1)])
    other.record(2, [failure(1), failure(2)])
    FailureLog(path, 1.0, 10).record(2, [failure(2), failure(3)])
    assert [row["id"] for row in rows(path)] == [f"webvid:train:{n}" for n in (1, 2, 3)]


def test_a_row_torn_by_a_kill_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    FailureLog(path, 1.0, 10).record(2, [failure(1), failure(2)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    FailureLog(path, 1.0, 10).record(1, [failure(2)])
    first, torn, again = path.read_text().splitlines()
    assert json.loads(first)["id"] == "webvid:train:1"
    assert json.loads(again)["id"] == "webvid:train:2"
    with pytest.raises(json.JSONDecodeError):
        json.loads(torn)


def test_the_budget_stops_the_run_with_a_summary(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    log = FailureLog(path, max_unreadable_fraction=0.02, num_examples=1000)
    log.record(1, [failure(1)])  # 100% of one sample, but 1% of the first hundred
    log.record(98)
    log.record(1, [failure(2)])
    with pytest.raises(UnreadableVideosError) as error:
        log.record(1, [failure(3)])
    message = str(error.value)
    assert "3 of 101 samples had an unreadable video (max_unreadable_fraction = 0.02)" in message
    assert "3 x missing" in message
    assert "such as webvid:train:1: /v/1.mp4 (there is no such file)" in message
    assert str(path) in message
    assert len(rows(path)) == 3


def test_the_budget_has_the_name_by_which_it_can_be_changed() -> None:
    log = FailureLog(None, 0.0, 10, setting="running.max_unreadable_fraction")
    with pytest.raises(UnreadableVideosError) as error:
        log.record(1, [failure(1)])
    first, *_, last = error.value.lines()
    assert first.endswith("(running.max_unreadable_fraction = 0.0)")
    assert last.endswith("or raise running.max_unreadable_fraction")
    with pytest.raises(ValueError, match=r"^running\.max_unreadable_fraction is a share"):
        FailureLog(None, 1.5, 10, setting="running.max_unreadable_fraction")


def test_who_judges_at_the_end_is_not_stopped() -> None:
    log = FailureLog(None, 0.0, 10)
    log.add(3, 2)
    assert (log.num_samples, log.num_unreadable) == (3, 2)
    with pytest.raises(UnreadableVideosError, match="2 of 4 samples"):
        log.count(1, 0)


def test_a_small_corpus_is_judged_as_a_whole() -> None:
    log = FailureLog(None, max_unreadable_fraction=0.2, num_examples=10)
    log.record(1, [failure(1)])
    log.record(1, [failure(2)])
    with pytest.raises(UnreadableVideosError, match="3 of 3 samples"):
        log.record(1, [failure(3)])


def test_no_budget_stops_at_the_first() -> None:
    with pytest.raises(UnreadableVideosError):
        FailureLog(None, 0.0, 1000).record(8, [failure(1)])
    with pytest.raises(ValueError, match=r"in \[0, 1\]: found 1.5"):
        FailureLog(None, 1.5, 10)
