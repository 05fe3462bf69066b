"""Answers that no teacher gave, through the same gate and journal."""

from collections.abc import Callable, Iterable

from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft
from vidreason.teacher.gate import Gate
from vidreason.teacher.journal import Journal
from vidreason.teacher.verdicts import Verdict
from vidreason.video.failures import VideoReadError

_AT_ONCE = 64
"""Clips of one transaction."""


def judge_drafts(
    journal: Journal,
    gate: Gate,
    answers: Iterable[tuple[Clip, Draft]],
    observe: Callable[[], None],
) -> None:
    """Judge all answers in their order; those that the journal has are not judged again.

    Args:
        journal: Where clips and verdicts go.
        gate: A new one, which has judged nothing.
        answers: All of them, in the same order each time.
        observe: Called now and then.

    Raises:
        ValueError: The journal has other clips than these.
    """
    known = journal.records()
    batch: list[tuple[Clip, Verdict]] = []
    for clip, draft in answers:
        # Answers come in the same order each time, so that the journal's are the first of them.
        record = next(known, None)
        if record is not None and record.clip != clip:
            raise ValueError(
                f"{journal.path} has the clip {record.clip.id} where there is {clip.id} now: the "
                "corpora have changed; choose another run_dir"
            )
        if record is not None and record.verdict is not None:
            gate.remember(clip, record.verdict)
            continue
        try:
            verdict = gate.judge_draft(clip, draft)
        # What was judged before it is written first: the journal keeps the order.
        except VideoReadError as error:  # of the verifier; it says nothing about the draft
            journal.add_judged(batch)
            batch.clear()
            journal.add([clip], is_whole=False)
            journal.record_failure(clip.id, "unreadable_video", str(error))
            continue
        if record is None:
            batch.append((clip, verdict))
        else:  # its verdict was another gate's, or its video could not be read
            journal.record_verdict(clip.id, verdict)
        if len(batch) == _AT_ONCE:
            journal.add_judged(batch)
            batch.clear()
            observe()
    journal.add_judged(batch)
    observe()
