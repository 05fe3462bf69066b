"""The program that makes instruction sets, from its configuration to the set and back."""

import json
import os
import signal
import threading
import time

import pytest
import yaml
from batch_service import BatchService, answered
from loopback import ByRequest, http
from tiny_videos_of_worlds import videos_of_a_world

from experiments.make_instructions import run as program
from experiments.make_instructions.__main__ import main
from vidreason.baselines.frames import FrameReader
from vidreason.microworld.corpora import WorldConfig, write_world
from vidreason.teacher.journal import Journal

KEY = "sk-planted-4Tz8Wq1Ns6Yb3Lc9"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    videos_of_a_world(folder, 8)
    return folder


def usage(prompt, generated):
    return {"prompt_tokens": prompt, "completion_tokens": generated}


def said(number):
    step = {"text": f"block {number} slides to the left wall", "start_seconds": 0.5}
    event = {"event": f"block {number * 3} falls over", "justification": "it tilts"}
    return json.dumps(
        {
            "steps": [step | {"end_seconds": 2.0}],
            "predictions": [event | {"confidence": 0.5}],
        }
    )


class Teacher:
    """Answers each request with another text, and remembers what it was sent."""

    def __init__(self):
        self.bodies = []
        self.before = lambda number: None
        self._lock = threading.Lock()

    def __call__(self, request):
        with self._lock:
            self.bodies.append(request)
            number = len(self.bodies)
        early = self.before(number)
        if early is not None:
            return early
        message = {"role": "assistant", "content": said(number)}
        choice = {"message": message, "finish_reason": "stop"}
        return http(200, {"choices": [choice], "usage": usage(1000, 50)})


@pytest.fixture
def start(tmp_path, videos, loopback, monkeypatch, capsys):
    """``start(**changes)``: run the program; its status, output and errors."""
    monkeypatch.setenv("PLANTED_API_KEY", KEY)
    teacher = Teacher()
    url = loopback.script(ByRequest(teacher))

    def run(*overrides, **changes):
        config = {
            "run_dir": str(tmp_path / "run"),
            "sources": [{"kind": "folder", "root": str(videos), "cut": "whole"}],
            "num_clips": 6,
            "teacher": {
                "model": "m",
                "num_frames": 2,
                "request_fields": {"response_format": None},
                "endpoint": {
                    "base_url": url,
                    "api_key_variable": "PLANTED_API_KEY",
                    "max_attempts": 1,
                },
            },
            "running": {
                "num_parallel": 2,
                "decode_timeout_seconds": 0.0,
                "prices": {
                    "per_million_prompt_tokens": 1000.0,
                    "per_million_generated_tokens": 1000.0,
                },
            },
        }
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(config | changes))
        status = main(["--config", str(file), *overrides])
        captured = capsys.readouterr()
        assert KEY not in captured.out + captured.err
        return status, captured.out, captured.err

    run.teacher, run.folder = teacher, tmp_path / "run"
    return run


def test_a_dry_run_prices_the_job_sends_nothing_and_binds_nobody(start):
    status, out, _ = start("dry_run=true")
    assert status == 0
    assert "requests: 6, with 12 pictures" in out
    assert "nothing was sent" in out
    assert not start.teacher.bodies
    assert not (start.folder / "journal.sqlite").exists()
    assert start("dry_run=true", "seed=5", "num_clips=3")[0] == 0


def test_a_set_is_made_and_made_again_for_nothing(start):
    status, out, err = start()
    assert status == 0
    assert "accepted 6" in out
    assert "6 of 6 clips have ended" in out
    assert "cost: 6.30 USD, and at most 0.00 USD" in out
    assert "accepted 6" in err  # the bar's last state
    rows = (start.folder / "set" / "train.jsonl").read_text().splitlines()
    card = (start.folder / "set" / "README.md").read_text()
    assert "requests: 6, with 12 pictures" in card
    assert len(start.teacher.bodies) == 6
    status, out, _ = start()
    assert (status, len(start.teacher.bodies)) == (0, 6)
    assert "nothing: all clips have been asked about" in out
    assert (start.folder / "set" / "train.jsonl").read_text().splitlines() == rows
    # More clips: only those are asked about.
    assert start("num_clips=8")[0] == 0
    assert len(start.teacher.bodies) == 8
    # Another gate: nothing is asked.
    status, out, _ = start("num_clips=8", "gate.min_words=7")
    assert "the gate has changed: 8 answers are judged anew" in out
    assert "length 8" in out
    assert len(start.teacher.bodies) == 8


def test_another_configuration_is_refused_with_a_remedy(start):
    assert start()[0] == 0
    for override, name in (("seed=1", "seed"), ("teacher.num_frames=3", "teacher.num_frames")):
        status, _, err = start(override)
        assert status == 2
        assert name in err
        assert "choose another run_dir" in err
    assert start("num_clips=3")[0] == 2
    assert len(start.teacher.bodies) == 6


def test_a_spent_budget_ends_in_a_set_of_what_there_is(start):
    status, out, err = start("running.max_requests=4")
    assert status == 1
    assert "running.max_requests=4" in err
    assert "accepted 4" in out
    rows = (start.folder / "set" / "train.jsonl").read_text().splitlines()
    rows += (start.folder / "set" / "val.jsonl").read_text().splitlines()
    assert len(rows) == 4
    status, _, err = start("running.max_cost=4.9", "running.max_requests=null")
    assert (status, len(start.teacher.bodies)) == (1, 4)
    assert "running.max_cost=4.9 USD may be exceeded" in err
    assert start()[0] == 0
    assert len(start.teacher.bodies) == 6


def test_an_outage_is_said_and_the_next_start_goes_on(start):
    start.teacher.before = lambda number: http(500, {}) if number > 2 else None
    status, _, err = start("running.max_consecutive_failures=2")
    assert status == 1
    assert "2 requests in a row failed" in err
    assert not (start.folder / "set").exists()
    start.teacher.before = lambda number: None
    assert start()[0] == 0


def test_a_refused_key_is_said(start):
    start.teacher.before = lambda number: http(401, {"error": {"message": f"wrong key {KEY}"}})
    status, _, err = start()
    assert status == 2
    assert "PLANTED_API_KEY" in err


def test_a_missing_key_is_said_before_anything_else(start, monkeypatch):
    monkeypatch.delenv("PLANTED_API_KEY")
    status, _, err = start()
    assert status == 2
    assert "PLANTED_API_KEY is not set" in err
    assert start("dry_run=true")[0] == 0


def test_a_signal_ends_it_after_the_replies_in_flight(start):
    def before(number):
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)

    start.teacher.before = before
    with pytest.raises(SystemExit) as caught:
        start()
    assert caught.value.code == 128 + signal.SIGTERM
    with Journal(start.folder / "journal.sqlite") as journal:
        assert journal.counts().failed.total() == 0
        # Each request that was sent has its reply.
        assert len(list(journal.answered())) == len(start.teacher.bodies) < 6
    start.teacher.before = lambda number: None
    assert start()[0] == 0
    assert len(start.teacher.bodies) == 6


def test_two_programs_do_not_write_to_one_folder(start):
    with program.sole_writer(start.folder, "make_instructions"):
        status, _, err = start()
    assert status == 2
    assert "is being written to by" in err


def test_batches_are_asked_and_recorded_without_decoding_twice(start, loopback, monkeypatch):
    service = BatchService(loopback)
    numbers = iter(range(100))
    service.reply = lambda body: answered(said(next(numbers)))
    reads = []
    read = FrameReader.__call__
    monkeypatch.setattr(
        FrameReader, "__call__", lambda *values: reads.append(values[1]) or read(*values)
    )
    batch = ("teacher.batch=true", "teacher.batch_limits.poll_seconds=0.01")
    status, out, _ = start(*batch, "running.max_requests=4")
    assert status == 1
    assert "accepted 4" in out
    status, out, _ = start(*batch, "running.prices.batch_discount=0.5")
    assert (status, service.num_worked_on) == (0, 6)
    assert "accepted 6" in out
    assert "cost: 0.32 USD" in out
    # For the estimate all that are left, and then each that is asked about.
    assert len(reads) <= 6 + 5 + 2 + 2
    with Journal(start.folder / "journal.sqlite") as journal:
        assert {one.reply.num_prompt_tokens for one in journal.answered()} == {100}


def test_answers_without_a_teacher_go_through_the_same_gate(start, tmp_path):
    write_world(tmp_path / "world", WorldConfig(num_videos={"train": 6}))
    kinds = {
        "answers": "continuation",
        "teacher_free": {
            "corpora": [{"reader": "webvid", "root": str(tmp_path / "world" / "webvid")}],
            "spans": {"gap_seconds": 0.25, "horizon_seconds": 6.0},
        },
        "gate": {"near_duplicate_similarity": None, "predictions_may_repeat": True},
    }
    status, out, _ = start(**kinds)
    assert status == 0
    assert not start.teacher.bodies
    assert "accepted 6" in out
    before = (start.folder / "set" / "train.jsonl").read_text()
    assert start(**kinds)[0] == 0
    assert (start.folder / "set" / "train.jsonl").read_text() == before
    # The gate has changed: all drafts are judged anew.
    status, out, _ = start("gate.min_words=60", **kinds)
    assert status == 0
    assert "accepted 0" in out
    assert start("seed=3", **kinds)[0] == 2
