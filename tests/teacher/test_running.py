"""Asking about many clips: bounds, failures, outages, budgets, and a run that is told to stop."""

import json
import threading
import time

import pytest
from fake_teacher import REQUEST_USAGE, FakeTeacher, answer, sample

from vidreason.endpoints.errors import (
    BudgetSpentError,
    EndpointRefusedError,
    EndpointUnavailableError,
)
from vidreason.endpoints.replies import REFUSED, ChatReply
from vidreason.teacher import running
from vidreason.teacher.journal import Journal
from vidreason.teacher.judging import Judging
from vidreason.teacher.prices import money
from vidreason.teacher.running import Asking, OutageError, ask
from vidreason.teacher.running_config import PriceConfig, RunningConfig
from vidreason.teacher.spending import Spending
from vidreason.teacher.verdicts import Verdict
from vidreason.video.failures import FailureLog, UnreadableVideosError, VideoReadError

PRICES = PriceConfig(
    per_million_prompt_tokens=1000, per_million_generated_tokens=10_000, per_image=0.01
)


@pytest.fixture
def start(tmp_path):
    """``start(number, script, read=None, observe, is_stopped, **config)``: one start of a run."""
    journals = []

    def run(number, script=None, *, read=None, stop=lambda: False, observe=None, **config):
        if journals:
            journals[-1].close()
        journal = Journal(tmp_path / "journal.sqlite", {"seed": 0})
        journals.append(journal)
        journal.add(sample(number))
        journal.ask_again()
        limits = RunningConfig(**config)
        spending = Spending(journal.cache, "fake", limits)
        teacher = FakeTeacher(journal.cache, spending, script)
        run.journal, run.teacher, run.spending = journal, teacher, spending
        failures = FailureLog(
            tmp_path / "failures.jsonl", limits.max_unreadable_fraction, max(number, 1)
        )
        frames = read or teacher.frames
        asking = Asking(teacher, frames, limits, spending, 100, failures)
        ask(journal, asking, observe or (lambda: None), stop)
        return journal

    yield run
    for journal in journals:
        journal.close()


def test_all_are_answered_within_the_bounds(start):
    seen = []
    journal = start(
        60,
        num_parallel=5,
        decode_ahead=3,
        num_decoders=2,
        observe=lambda: seen.append(journal_counts(start)),
    )
    assert [one.reply.text for one in journal.answered()] == [f"answer {n}" for n in range(60)]
    assert sorted(map(int, start.teacher.sent)) == list(range(60))
    assert start.teacher.sending.most <= 5
    assert start.teacher.reading.most <= 2
    assert seen == sorted(seen)
    assert len(seen) > 2
    assert start.spending.num_spent == 60


def journal_counts(start):
    return start.journal.counts().answered


def test_no_clip_is_decoded_long_before_its_request(start):
    decoded, gate = [], threading.Event()

    def script(name):
        gate.wait(10)
        return answer(name)

    def read(media, *rest):
        decoded.append(media)
        return start.teacher.frames(media, *rest)

    def observe():
        if len(decoded) >= 2 + 4:
            held.append(len(decoded))
            gate.set()

    held = []
    start(50, script, read=read, observe=observe, num_parallel=2, decode_ahead=4)
    assert held[0] == 2 + 4  # two in flight, four ahead


def test_one_request_of_two_clips_is_paid_for_once(start):
    def read(media, *rest):
        return start.teacher.frames("7", *rest)

    journal = start(20, read=read, num_parallel=8)
    assert start.teacher.sent == ["7"]
    assert {one.reply.text for one in journal.answered()} == {"answer 7"}
    assert start.spending.paid.num_requests == 1


def test_each_failure_is_recorded_by_its_cause_and_some_are_asked_again(start, tmp_path):
    def script(name):
        if name == "3":
            return ChatReply(text="", problem=f"{REFUSED} (status 400): too \x1b[31mlong")
        return EndpointUnavailableError("gave no output") if name in ("5", "6") else answer(name)

    def read(media, *rest):
        if media == "9":
            raise VideoReadError("/videos/9", "truncated", "it ends early")
        return start.teacher.frames(media, *rest)

    journal = start(12, script, read=read, max_unreadable_fraction=0.5)
    counts = journal.counts()
    assert counts.failed == {"refused_request": 1, "endpoint": 2, "unreadable_video": 1}
    assert counts.answered == 8
    assert not counts.pending
    (row,) = map(json.loads, (tmp_path / "failures.jsonl").read_text().splitlines())
    assert (row["path"], row["cause"]) == ("/videos/9", "truncated")
    assert all(one.detail.isprintable() for one in journal.ended())
    # Refused ones are not asked again; the others are, and nothing is paid for twice.
    journal = start(12)
    assert sorted(start.teacher.sent) == ["5", "6", "9"]
    assert journal.counts().failed == {"refused_request": 1}


def test_an_outage_stops_the_run_and_does_not_mark_the_clips(start):
    def script(name):
        time.sleep(0.002)
        return answer(name) if int(name) < 10 else EndpointUnavailableError("connection refused")

    with pytest.raises(OutageError, match=r"[34] requests in a row.*refused.*start again"):
        start(90, script, num_parallel=3, max_consecutive_failures=4)
    counts = start.journal.counts()
    assert counts.answered <= 10
    # Three are enough before any reply. Clips are ready in any order, and each of the ten replies
    # begins the count of failures anew.
    most = 10 * (4 - 1) + 4 + 3  # three are in flight when the fourth in a row fails
    assert 3 <= counts.failed["endpoint"] <= most
    assert len(start.teacher.sent) <= 10 + most + 3 < 90
    assert start(90).counts().answered == 90


def test_a_server_that_was_never_there_is_noticed_at_once(start):
    with pytest.raises(OutageError, match="3 requests in a row"):
        start(90, lambda _: EndpointUnavailableError("connection refused"), num_parallel=1)
    assert len(start.teacher.sent) == 3


def test_a_refusal_of_all_requests_stops_the_run(start):
    with pytest.raises(EndpointRefusedError, match="wrong key"):
        start(100, lambda _: EndpointRefusedError("wrong key"), num_parallel=3)
    assert start.journal.counts().pending == 100
    assert len(start.teacher.sent) <= 6


def test_too_many_unreadable_videos_stop_the_run(start):
    def read(media, *rest):
        raise VideoReadError(media, "missing", "there is no such file")

    with pytest.raises(UnreadableVideosError, match="check the corpus"):
        start(90, read=read, max_unreadable_fraction=0.05)
    assert start.journal.counts().failed["unreadable_video"] <= 20
    assert start(90).counts().answered == 90


def test_the_budget_of_requests_holds_over_all_starts(start):
    for limit, number in ((7, 7), (7, 7), (30, 30)):
        with pytest.raises(BudgetSpentError, match=f"running.max_requests={limit}"):
            start(50, max_requests=limit, num_parallel=4)
        assert start.journal.counts().answered == number
        assert start.journal.counts().pending == 50 - number
    start(50)
    assert start.spending.num_spent == 50


def test_the_budget_of_money_is_never_exceeded_whatever_is_in_flight(start):
    actual = money(PRICES, REQUEST_USAGE._replace(num_prompt_tokens=10, num_generated_tokens=10))
    estimate = money(PRICES, REQUEST_USAGE)
    assert estimate > 5 * actual
    most = []

    def observe():
        most.append(start.spending.paid_cost + start.spending.unknown_cost)

    limit = 30 * actual
    for _ in range(2):
        with pytest.raises(BudgetSpentError, match=r"running.max_cost=[\d.]+ USD may be exceeded"):
            start(90, prices=PRICES, max_cost=limit, num_parallel=4, observe=observe)
        assert max(most) <= limit + 1e-9
        # It goes on until not even one estimate fits.
        assert start.spending.paid_cost > limit - estimate - actual - 1e-9
        assert start.journal.counts().answered == start.spending.paid.num_requests
    start(90, prices=PRICES, max_cost=1000.0)
    assert start.spending.paid_cost == pytest.approx(90 * actual)
    assert start.spending.unknown_cost == 0


def test_what_was_sent_and_never_answered_counts_as_dear_as_it_may_be(start):
    def script(name):
        return EndpointUnavailableError("timed out") if int(name) % 2 else answer(name)

    # Failures come in any order; of all that are asked at a time, half are no outage.
    start(10, script, num_parallel=10, prices=PRICES, max_cost=100.0)
    estimate = money(PRICES, REQUEST_USAGE)
    assert start.spending.unknown_cost == pytest.approx(5 * estimate)
    # The same holds for a later start, which knows them by their number alone.
    start(10, script, num_parallel=10, prices=PRICES, max_cost=100.0)
    assert start.spending.unknown_cost == pytest.approx(10 * estimate)


def test_a_run_that_is_told_to_stop_waits_for_what_it_has_paid_for(start):
    journal = start(90, stop=lambda: len(start.teacher.sent) >= 20, num_parallel=4)
    counts = journal.counts()
    assert counts.answered == len(start.teacher.sent) < 40
    assert counts.pending == 90 - counts.answered
    assert not counts.failed.total()
    assert start(90, max_hours=1e-9).counts().answered == counts.answered
    assert start(90).counts().answered == 90


def test_what_does_not_come_in_time_is_cut_off_and_asked_again(start, monkeypatch):
    monkeypatch.setattr(running, "GRACE_SECONDS", 0.0)
    closed = threading.Event()

    def script(name):
        closed.wait(10)
        return EndpointUnavailableError("closed meanwhile")

    def stop():
        if start.teacher.num_closed:
            closed.set()
        return len(start.teacher.sent) >= 2

    counts = start(5, script, stop=stop, num_parallel=2).counts()
    assert (counts.pending, counts.failed.total(), start.teacher.num_closed) == (5, 0, 1)


def test_an_interrupt_ends_what_is_in_flight(start):
    def observe():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(50, observe=observe)
    assert start.teacher.num_closed == 1
    assert start(50).counts().answered == 50


class InOrder:
    """A gate that accepts an answer unless the one before it was accepted."""

    def __init__(self):
        self.judged, self.remembered, self._last = [], [], None

    def judge(self, clip, reply):
        self.judged.append(clip.video_id)
        rejection = "near_duplicate" if self._last is None else None
        self._last = rejection
        return Verdict(rejection=rejection)

    def remember(self, clip, verdict):
        self.remembered.append(clip.video_id)
        self._last = verdict.rejection


def ends(journal):
    return [(one.clip.video_id, one.verdict and one.verdict.rejection) for one in journal.ended()]


def test_verdicts_do_not_depend_on_when_replies_come(start):
    gates = []

    def judged(number, script=None):
        gates.append(InOrder())
        judging = []

        def observe():
            if not judging:
                judging.append(Judging(start.journal, gates[-1]))
            judging[0].advance()

        journal = start(number, script, observe=observe, num_parallel=8)
        observe()
        judging[0].finish()
        return ends(journal)

    whole = judged(40)
    assert gates[-1].judged == [f"v{number}" for number in range(40)]
    assert judged(40) == whole
    assert (gates[-1].judged, len(gates[-1].remembered)) == ([], 40)
    # The sample grows: only new answers are judged.
    assert judged(50)[:40] == whole
    assert len(gates[-1].judged) == 10


def test_a_reply_that_comes_late_lets_those_after_it_be_judged_again(start):
    def script(name):
        return EndpointUnavailableError("timed out") if name == "4" else answer(name)

    for number in (1, 2):
        journal = start(9, script if number == 1 else None)
        gate = InOrder()
        judging = Judging(journal, gate)
        judging.finish()
        expected = range(9) if number == 1 else range(4, 9)
        assert gate.judged == [f"v{index}" for index in expected if index != 4 or number == 2]
    alone = InOrder()
    expected = [(clip.video_id, alone.judge(clip, answer("")).rejection) for clip in sample(9)]
    assert ends(journal) == expected


def test_a_video_that_the_gate_cannot_read_has_failed_and_is_not_paid_for_again(start):
    class Blind(InOrder):
        def judge(self, clip, reply):
            if clip.video_id == "v1":
                raise VideoReadError(clip.media, "missing", "gone")
            return super().judge(clip, reply)

    journal = start(3)
    Judging(journal, Blind()).finish()
    assert journal.counts().failed == {"unreadable_video": 1}
    journal = start(3)
    assert start.teacher.sent == []
    Judging(journal, InOrder()).finish()
    assert journal.counts().num_ended == 3
    assert not journal.counts().failed.total()


def test_a_reply_that_was_stored_and_not_yet_recorded_is_not_paid_for_again(start, monkeypatch):
    record = Journal.record_reply
    recorded = []

    def killed(journal, *values):
        if len(recorded) == 3:
            raise KeyboardInterrupt
        recorded.append(values)
        record(journal, *values)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "record_reply", killed)
        with pytest.raises(KeyboardInterrupt):
            start(20, num_parallel=4)
    sent = list(start.teacher.sent)
    assert len(sent) > 3
    assert start(20).counts().answered == 20
    assert sorted(map(int, sent + start.teacher.sent)) == list(range(20))
    assert start.spending.paid.num_requests == start.spending.num_spent == 20
