"""The journal: states, kills, other files, full disks, other configurations, hostile texts."""

import math
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest

from vidreason.endpoints.replies import ChatReply
from vidreason.reasoning.outcomes import Outcome
from vidreason.reasoning.predictions import Prediction
from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.journal import Journal
from vidreason.teacher.verdicts import Verdict

IDENTITY = {"teacher": {"model": "m", "prompt": "Explain."}, "seed": 0}
DRAFT = Draft(
    steps=(Step("the ball rolls", 0.0, 1.5), Step("it stops")),
    predictions=(Prediction("it stays", "nothing moves it", math.nan),),
    outcome=Outcome("it falls", "fall", 0.5),
)


def clips(number, source="world"):
    return [
        Clip(source=source, video_id=f"v{index}", media=f"/videos/{index}.mp4")
        for index in range(number)
    ]


def reply(text="fine", tokens=7):
    return ChatReply(text=text, num_prompt_tokens=tokens, num_generated_tokens=3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "journal.sqlite"


def test_a_clip_goes_from_pending_to_one_end(path):
    three = clips(3)
    with Journal(path, IDENTITY) as journal:
        assert journal.add(iter(three)) == 3
        assert list(journal.pending()) == three
        assert journal.spread_pending(2) == three[:2]
        assert journal.spread_pending(9) == three
        journal.record_reply(three[2].id, "b", reply("later", 9))
        journal.record_reply(three[0].id, "a", reply())
        journal.record_failure(three[1].id, "unreadable_video", "a\x1b[31m\nb" + "x" * 999)
        accepted = Verdict(draft=DRAFT, flags=("unsupported step 2",))
        journal.record_verdict(three[0].id, accepted)
        journal.record_verdict(three[2].id, Verdict(rejection="schema", detail="no JSON\u2028"))
        assert list(journal.pending()) == []
    with Journal(path, IDENTITY) as journal:
        answered = list(journal.answered())
        assert [(one.clip, one.key, one.reply) for one in answered] == [
            (three[0], "a", reply()),
            (three[2], "b", reply("later", 9)),
        ]
        assert answered[0].created.endswith("+00:00")
        first, second, third = journal.ended()
        assert (first.clip, first.failure, third.verdict.rejection) == (three[0], None, "schema")
        assert repr(first.verdict) == repr(accepted)  # a NaN differs from itself
        assert (second.verdict, second.failure) == (None, "unreadable_video")
        assert second.detail.isprintable()
        assert len(second.detail) <= 300
        counts = journal.counts()
        assert (counts.accepted, counts.num_ended, counts.num_clips) == (1, 3, 3)
        assert (counts.rejected, counts.failed) == ({"schema": 1}, {"unreadable_video": 1})


def test_what_may_have_passed_is_asked_again_and_what_was_paid_for_is_not(path):
    four = clips(4)
    with Journal(path, IDENTITY) as journal:
        journal.add(four)
        for clip, failure in zip(
            four, ["endpoint", "unreadable_video", "refused_request"], strict=False
        ):
            journal.record_failure(clip.id, failure, "")
        journal.record_reply(four[3].id, "key", reply())
        assert journal.ask_again() == 2
        assert list(journal.pending()) == four[:2]
        assert journal.counts().failed == {"refused_request": 1}
        # The first reply of a key stays, and the clip has an end of one kind only.
        journal.record_reply(four[0].id, "key", reply("another"))
        journal.record_reply(four[2].id, "other", reply())
        assert [one.reply.text for one in journal.answered()] == ["fine"] * 3
        assert not journal.counts().failed.total()
        with pytest.raises(ValueError, match="has no reply to judge"):
            journal.record_verdict(four[1].id, Verdict())
        with pytest.raises(ValueError, match="has no clip elsewhere"):
            journal.record_reply("elsewhere", "key", reply())


def test_what_is_taken_back_is_not_counted(path):
    three = clips(3)
    with Journal(path, IDENTITY) as journal:
        journal.add(three[:2])
        journal.record_reply(three[0].id, "key", reply())
        before = journal.counts()
        rejected = Verdict(rejection="schema")
        with pytest.raises(ValueError, match="has no reply to judge"):
            journal.record_verdicts([(three[0].id, rejected), (three[1].id, rejected)])
        with pytest.raises(ValueError, match=path.name):
            journal.add_judged([(three[2], rejected), (three[0], rejected)])
        assert journal.counts() == before
    with Journal(path, IDENTITY) as journal:
        assert journal.counts() == before


def test_verdicts_of_another_gate_are_forgotten_and_replies_are_not(path):
    with Journal(path, IDENTITY) as journal:
        journal.add(clips(2))
        journal.judge_anew("gate 1")
        for clip in clips(2):
            journal.record_reply(clip.id, clip.id, reply())
            journal.record_verdict(clip.id, Verdict(rejection="length"))
        assert journal.judge_anew("gate 1") == 0
        assert journal.judge_anew("gate 2") == 2
        assert (journal.counts().answered, list(journal.ended())) == (2, [])


def test_the_sample_may_grow_and_nothing_else(path):
    with Journal(path, IDENTITY) as journal:
        journal.add(clips(3))
        assert journal.add(clips(5)) == 2
        assert list(journal.pending()) == clips(5)
        assert journal.spread_pending(2) == [clips(5)[0], clips(5)[2]]
        for sample in (clips(4), clips(5, "another"), []):
            with pytest.raises(ValueError, match=r"was begun with 5 clips, .* another run_dir"):
                journal.add(sample)
        changed = [replace(clips(5)[0], split="val"), *clips(5)[1:]]
        with pytest.raises(ValueError, match=r"otherwise: split was 'train' and is 'val'"):
            journal.add(changed)
        assert journal.counts().num_clips == 5
    other = {"teacher": {"model": "n", "prompt": "Explain."}, "seed": 0}
    with pytest.raises(ValueError, match=r"teacher.model was 'm' and is 'n'; set it back, or"):
        Journal(path, other)
    Journal(path).close()  # whoever only reads needs no configuration


def test_other_files_are_refused_and_left_as_they_are(tmp_path):
    text, database = tmp_path / "notes", tmp_path / "mlflow.db"
    text.write_bytes(b"somebody's notes, which are no database " * 100)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE runs (id TEXT)")
    before = text.read_bytes(), database.read_bytes()
    for path in (text, database, tmp_path, text / "below" / "a file"):
        with pytest.raises(ValueError, match=r"another run_dir"):
            Journal(path, IDENTITY)
    assert (text.read_bytes(), database.read_bytes()) == before


def test_a_full_disk_is_said_and_loses_nothing_that_was_recorded(path):
    with Journal(path, IDENTITY) as journal:
        journal.add(clips(3))
        journal.record_reply(clips(1)[0].id, "key", reply())
        pages = journal._file.connection.execute("PRAGMA page_count").fetchone()[0]
        journal._file.connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(ValueError, match=r"database or disk is full.*make room"):
            journal.record_reply(clips(2)[1].id, "long", reply("x" * 2**20))
    with Journal(path, IDENTITY) as journal:
        assert [one.key for one in journal.answered()] == ["key"]
        assert len(list(journal.pending())) == 2


def test_damage_is_told_from_an_answer(path):
    with Journal(path, IDENTITY) as journal:
        journal.add(clips(1))
        journal.record_reply(clips(1)[0].id, "key", reply())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM outputs")
    with Journal(path, IDENTITY) as journal, pytest.raises(ValueError, match="is damaged"):
        list(journal.answered())


def test_hostile_texts_come_back_as_they_were(path):
    texts = ["\x00\x1b[2J\r\u202e", "../../etc/passwd", "<script>alert(1)</script>", "x" * 2**22]
    hostile = clips(4, "a")
    with Journal(path, IDENTITY) as journal:
        journal.add(hostile)
        for clip, text in zip(hostile, texts, strict=True):
            journal.record_reply(clip.id, text[:50], reply(text))
        step = Step("\ud800 unpaired", None, None)
        verdict = Verdict(draft=Draft(steps=(step,)), rejection="hostile", detail="\ud800\x1b")
        journal.record_verdict(hostile[0].id, verdict)
    with Journal(path, IDENTITY) as journal:
        assert [one.reply.text for one in journal.answered()] == texts
        (ended,) = journal.ended()
        assert ended.verdict.draft.steps == (step,)
        assert ended.detail.isascii()
    assert sorted(one.name for one in path.parent.iterdir()) == ["journal.sqlite"]


WRITER = """
import sys
from vidreason.endpoints.replies import ChatReply
from vidreason.teacher.journal import Journal
from vidreason.teacher.verdicts import Verdict
with Journal(sys.argv[1], {}) as journal:
    for clip in journal.pending():
        journal.record_reply(clip.id, clip.id, ChatReply(text="x" * 3000, num_prompt_tokens=1))
        journal.record_verdict(clip.id, Verdict())
        print(clip.id, flush=True)
"""


def test_a_kill_at_any_moment_loses_nothing_that_was_recorded(path):
    with Journal(path, {}) as journal:
        journal.add(clips(400))
    recorded = []
    for number in (1, 9, 40):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        recorded += [process.stdout.readline().strip() for _ in range(number)]
        os.kill(process.pid, signal.SIGKILL)
        rest, _ = process.communicate()
        recorded += rest.split()
        with Journal(path, {}) as journal:
            ended = [one.clip.id for one in journal.ended()]
            # What was said is there; one more may have been recorded and not said.
            assert ended[: len(recorded)] == recorded
            assert len(ended) <= len(recorded) + 1
            assert len(list(journal.answered())) in (len(ended), len(ended) + 1)
            recorded = ended
            unjudged = [one.clip.id for one in journal.answered()][len(ended) :]
            for clip_id in unjudged:
                journal.record_verdict(clip_id, Verdict())
                recorded.append(clip_id)


def test_the_journal_may_be_read_while_it_is_written(path):
    with Journal(path, IDENTITY) as journal, Journal(path) as reader:
        journal.add(clips(600))
        for number, clip in enumerate(journal.pending()):
            journal.record_reply(clip.id, clip.id, reply())
            if number == 300:
                assert len(list(reader.answered())) == 301
        assert len(list(reader.answered())) == 600
