"""Answers that no teacher gave, through the same gate and journal."""

from collections.abc import Callable, Iterable

from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft
from vidreason.teacher.gate import Gate
from vidreason.teacher.journal import Journal
from vidreason.teacher.verdicts import Verdict

_AT_ONCE = 64
"""Clips of one transaction."""


def judge_drafts(
    journal: Journal,
    gate: Gate,
    answers: Iterable[tuple[Clip, Draft]],
    observe: Callable[[], None],
    is_stopped: Callable[[], bool],
) -> None:
    """Judge all answers in their order; those that the journal has are not judged again.

    Args:
        journal: Where clips and verdicts go.
        gate: A new one, which has judged nothing.
        answers: All of them, in the same order each time.
        observe: Called now and then.
        is_stopped: Tells whether to stop.

    Raises:
        ValueError: The journal has other clips than these.
    """
    known = journal.records()
    batch: list[tuple[Clip, Verdict]] = []
    for clip, draft in answers:
        record = next(known, None)
        if record is None:
            batch.append((clip, gate.judge_draft(clip, draft)))
        elif record.clip != clip:
            raise ValueError(
                f"{journal.path} has the clip {record.clip.id} where there is {clip.id} now: the "
                "corpora have changed; choose another run_dir"
            )
        elif record.verdict is None:  # those of another gate were forgotten
            journal.record_verdict(clip.id, gate.judge_draft(clip, draft))
        else:
            gate.remember(clip, record.verdict)
        if len(batch) == _AT_ONCE:
            journal.add_judged(batch)
            batch.clear()
            observe()
            if is_stopped():
                return
    journal.add_judged(batch)
    observe()
