"""Answers without a teacher in the journal: in order, once, and again for another gate."""

from dataclasses import replace

import pytest
from fake_teacher import sample

from experiments.make_instructions.drafting import judge_drafts
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.journal import Journal
from vidreason.teacher.verdicts import Verdict
from vidreason.video.failures import VideoReadError


class DraftGate:
    """Accepts every second draft, and cannot read some videos."""

    def __init__(self, unreadable=()):
        self.judged, self.remembered, self._unreadable = [], [], unreadable

    def judge_draft(self, clip, draft):
        if clip.video_id in self._unreadable:
            raise VideoReadError(clip.media, "missing", "gone")
        self.judged.append(clip.video_id)
        return Verdict(draft=draft, rejection="length" if len(draft.steps) > 1 else None)

    def remember(self, clip, verdict):
        self.remembered.append(clip.video_id)


def answers(number):
    steps = Step("it rolls"), Step("it stops")
    return [
        (clip, Draft(steps=steps[: 1 + index % 2])) for index, clip in enumerate(sample(number))
    ]


def test_drafts_are_judged_once_in_order_whatever_happens(tmp_path):
    seen = []
    with Journal(tmp_path / "j.sqlite", {}) as journal:
        journal.judge_anew("gate 1")
        first = DraftGate(unreadable=("v70",))

        def stop():
            seen.append(journal.counts().num_ended)
            if len(seen) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            judge_drafts(journal, first, answers(200), stop)
        assert seen == [64, 64 + 6 + 1 + 64]
        second = DraftGate()
        judge_drafts(journal, second, answers(200), lambda: None)
        assert second.remembered + second.judged == [
            *(f"v{index}" for index in range(seen[1]) if index != 70),
            "v70",
            *(f"v{index}" for index in range(seen[1], 200)),
        ]
        assert [one.clip.video_id for one in journal.ended()] == [f"v{n}" for n in range(200)]
        counts = journal.counts()
        assert (counts.accepted, counts.rejected, counts.failed.total()) == (
            100,
            {"length": 100},
            0,
        )
        assert journal.judge_anew("gate 2") == 200
        third = DraftGate()
        judge_drafts(journal, third, answers(200), lambda: None)
        assert len(third.judged) == journal.counts().num_ended == 200
        other = [(replace(clip, video_id="x"), draft) for clip, draft in answers(3)]
        with pytest.raises(ValueError, match="corpora have changed"):
            judge_drafts(journal, DraftGate(), other, lambda: None)
