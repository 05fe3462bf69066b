"""Answers without a teacher, for the gate and the writer that a teacher's go through.

A corpus is read twice: once to find out which clips are in the sample, by the smallest hashes of
their ids, and once to give them; so memory holds a number a clip, whatever the corpus' size.
"""

import heapq
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from data_modules.annotated_spans import annotated_spans
from data_modules.clip_sampling import split_of
from data_modules.clip_spans import deal_out, seeded_hash
from data_modules.continuation import continuations
from data_modules.corpora import CorpusConfig
from data_modules.readers import read_corpus
from data_modules.skipped_rows import MAX_MALFORMED_FRACTION, SkippedRows
from data_modules.template_answers import template_answers
from experiments.make_instructions.config import MakeInstructionsConfig
from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft

logger = logging.getLogger(__name__)

Answer = tuple[Clip, Draft]
Refuse = Callable[[Clip], str]
"""Gives the cause for which a clip may not be in the set; empty for none."""

TWICE = "another answer is about the same span of the same video"


@dataclass(kw_only=True)
class CorpusCounts:
    """Answers of one corpus, and causes for which there are no more."""

    corpus: str
    """Reader and root."""
    num_answers: int = 0
    """Clips that could be in the sample."""
    num_drawn: int = 0
    """Clips in the sample."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Annotations, rows and clips that are in no answer, by cause."""


@dataclass(kw_only=True)
class TeacherFreeReport:
    """Counts of all corpora, in the order of the configuration."""

    corpora: list[CorpusCounts] = field(default_factory=list)


def teacher_free_answers(
    config: MakeInstructionsConfig, refuse: Refuse, report: TeacherFreeReport | None = None
) -> Iterator[Answer]:
    """Yield at most ``num_clips`` clips with their answers, corpus by corpus, in their order.

    Args:
        config: Whose ``answers`` are ``templates`` or ``continuation``.
        refuse: Says which clips the evaluation sets exclude; it is called once a clip.
        report: Is filled in while the corpora are read the first time; None for none.

    Raises:
        ValueError: No corpus is configured, one cannot be read, or nothing is left of all.
    """
    corpora = config.teacher_free.corpora
    if not corpora:
        raise ValueError(
            f"answers: {config.answers} needs annotated corpora: name some in teacher_free.corpora"
        )
    report = TeacherFreeReport() if report is None else report
    smallest = []
    for corpus in corpora:
        counts = CorpusCounts(corpus=f"{corpus.reader} in {corpus.root}")
        smallest.append(_smallest_hashes(config, corpus, refuse, counts))
        report.corpora.append(counts)
    capacities = [len(hashes) for hashes in smallest]
    quotas = deal_out(config.num_clips, capacities, [corpus.weight for corpus in corpora])
    if not sum(quotas):
        causes = "; ".join(f"{one.corpus}: {one.left_out}" for one in report.corpora)
        raise ValueError(f"no {config.answers} can be made of these corpora: {causes}")
    for corpus, hashes, quota, counts in zip(
        corpora, smallest, quotas, report.corpora, strict=True
    ):
        counts.num_drawn = quota
        # Where the quota is below what was held, the smallest hashes of these.
        yield from _drawn(config, corpus, sorted(hashes)[:quota])


def _answers(
    config: MakeInstructionsConfig, corpus: CorpusConfig, skipped: SkippedRows, rows: SkippedRows
) -> Iterator[Answer]:
    """All that a corpus gives, in the order of its files."""
    examples = read_corpus(corpus, rows)
    spans = config.teacher_free.spans
    if config.answers == "templates":
        yield from template_answers(examples, spans, skipped)
        return
    for one in continuations(annotated_spans(examples, skipped), spans, skipped):
        yield one.clip, one.draft


def _smallest_hashes(
    config: MakeInstructionsConfig, corpus: CorpusConfig, refuse: Refuse, counts: CorpusCounts
) -> list[int]:
    skipped = SkippedRows(quiet=True)
    # Apart from each other: the share of malformed rows is of rows, not of annotations and clips.
    rows = SkippedRows(max_malformed_fraction=MAX_MALFORMED_FRACTION)
    heap: list[int] = []  # negated, so that the largest is at hand
    held: set[int] = set()
    refused: set[int] = set()
    for clip, _ in _answers(config, corpus, skipped, rows):
        value = seeded_hash(config.seed, clip.id)
        cause = refuse(clip)
        if cause:
            # Another answer of this id would bring it back when the sample is drawn.
            refused.add(value)
            skipped.record(clip.id, cause)
            continue
        if value in held or value in refused:
            skipped.record(clip.id, TWICE)
            continue
        counts.num_answers += 1
        held.add(value)
        heapq.heappush(heap, -value)
        if len(heap) > config.num_clips:
            held.remove(-heapq.heappop(heap))
    rows.check_malformed(MAX_MALFORMED_FRACTION)
    counts.left_out = dict(rows.causes + skipped.causes)
    logger.info("%s: %d answers; left out: %s", counts.corpus, counts.num_answers, counts.left_out)
    return [-value for value in heap]


def _drawn(
    config: MakeInstructionsConfig, corpus: CorpusConfig, hashes: list[int]
) -> Iterator[Answer]:
    remaining = set(hashes)
    uncounted = SkippedRows.uncounted
    for clip, draft in _answers(config, corpus, uncounted(), uncounted()):
        if not remaining:
            return
        value = seeded_hash(config.seed, clip.id)
        if value not in remaining:
            continue
        remaining.remove(value)
        yield replace(clip, split=split_of(clip.video_id, config.validation_fraction)), draft
