"""The commands of ``experiments.review_instructions``, by their names."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from experiments.review_instructions.config import ReviewInstructionsConfig
from experiments.review_instructions.set_files import (
    ClipFrames,
    SetRow,
    all_reviews,
    set_rows,
)
from experiments.review_instructions.tables import report_tables
from vidreason.atomic_file import atomic_file, write_atomically, write_json_atomically
from vidreason.evaluation.tables import record_row
from vidreason.teacher.instruction_set import REJECTED, SPLITS
from vidreason.teacher.review_agreement import ACCEPTED, RowFacts, review_report
from vidreason.teacher.review_page import ReviewRow, write_review_page
from vidreason.teacher.review_sample import draw_rows
from vidreason.teacher.reviews import Reviews, Ruling, row_id, row_sha

PAGE_FILE = "review.html"


def page(config: ReviewInstructionsConfig) -> None:
    """Write the review page, and say what is in it.

    Raises:
        ValueError: The set cannot be read, or the page would be too large.
    """
    run_dir = Path(config.run_dir)
    # The set is read twice, so that only what is drawn has to be held.
    sample = draw_rows(
        (
            (row_id(one.row), row_sha(one.row), _source(one), one.verdict)
            for one in set_rows(run_dir)
        ),
        num_rows=config.num_rows,
        rejected_fraction=config.rejected_fraction,
        seed=config.seed,
    )
    clip_frames = ClipFrames(run_dir, config.media_dir, config.num_frames)
    # Frames are read as the page is written, as long as it has room.
    rows = [
        ReviewRow(
            row=one.row, split=one.split, verdict=one.verdict, frames=partial(clip_frames, one.row)
        )
        for one in set_rows(run_dir)
        if row_id(one.row) in sample.ids
    ]
    # In an order that tells nothing of source and verdict.
    rows.sort(key=lambda one: _luck(config.seed, row_id(one.row)))
    # Of the whole set, not of the sample.
    num_accepted = sum(n for (_, verdict), n in sample.sizes.items() if verdict == ACCEPTED)
    num_answers = sum(sample.sizes.values())
    path = _output(config, "review") / PAGE_FILE
    summary = write_review_page(
        path,
        "Review of an instruction set",
        rows,
        set_sha=sample.set_sha,
        facts={
            "set": run_dir.name or str(run_dir),
            "version": sample.set_sha[:12],
            "rows": f"{len(rows)} of {num_accepted:,} accepted and "
            f"{num_answers - num_accepted:,} rejected answers, drawn with seed {config.seed}",
        },
        frames=config.frames,
        max_bytes=int(config.max_page_mb * 2**20),
        hides_verdicts=config.hide_verdicts,
    )
    print(
        f"{path}: {summary.num_rows} rows, {summary.num_with_frames} of them with frames, "
        f"{summary.num_bytes / 2**20:.1f} MB"
    )
    if summary.restricted:
        print(
            f"keep it on this machine: the frames of {', '.join(summary.restricted)} may not be "
            "passed on under their licences (frames=shareable leaves them out)"
        )


def agreement(config: ReviewInstructionsConfig) -> None:
    """Print and write how far reviewers, and the gate, agree.

    Raises:
        ValueError: The set or a review file cannot be read, or no review is of this set.
    """
    run_dir = Path(config.run_dir)
    reviews = all_reviews(run_dir, config.reviews)
    reviewed = {review.id for review in reviews}
    rows: dict[str, RowFacts] = {}
    sizes: Counter[tuple[str, str]] = Counter()
    for one in set_rows(run_dir):
        # All rows are counted, and only reviewed ones held.
        sizes[_source(one), one.verdict] += 1
        if (name := row_id(one.row)) in reviewed:
            video = str(one.row.get("video_id"))
            rows[name] = RowFacts(row_sha(one.row), _source(one), video, one.verdict)
    report = review_report(reviews, rows, sizes)
    tables = report_tables(report)
    folder = _output(config, "review")
    content = {
        field.name: _plain(getattr(report, field.name)) for field in dataclasses.fields(report)
    }
    markdown = "\n\n".join(table.to_markdown() for table in tables)
    write_json_atomically(folder / "agreement.json", content)
    write_atomically(folder / "agreement.md", markdown + "\n")
    print("\n\n".join(table.to_text() for table in tables))
    print(
        f"{report.num_stale} reviews of other versions of rows and {report.num_unknown} of rows "
        f"that the set has not count nowhere; all numbers are in {folder / 'agreement.json'}"
    )


def apply(config: ReviewInstructionsConfig) -> None:
    """Write the reviewed splits, and say what was changed.

    Raises:
        ValueError: The set or a review file cannot be read, or the output is the set's folder.
    """
    run_dir = Path(config.run_dir)
    folder = _output(config, "reviewed")
    if folder.resolve() == run_dir.resolve():
        raise ValueError(
            f"output is run_dir, {config.output!r}: the set itself is never overwritten; name "
            "another folder"
        )
    reviews = all_reviews(run_dir, config.reviews)
    counts: Counter[str] = Counter()
    # Ids of the rows of both splits: reviews may name others.
    known: set[str] = set()
    for split in SPLITS:
        rows = (one for one in set_rows(run_dir) if one.split == split)
        with atomic_file(folder / f"{split}.jsonl") as file:
            # Row by row into a file that is there whole or not at all.
            for row in _reviewed(rows, Reviews(reviews), counts, known):
                file.write((json.dumps(row, separators=(",", ":")) + "\n").encode())
    rejected = {row_id(one.row) for one in set_rows(run_dir) if one.split == REJECTED}
    named = {review.id for review in reviews}
    counts["of_answers_that_the_gate_rejected"] = len(named & rejected)
    counts["of_rows_that_the_set_has_not"] = len(named - rejected - known)
    write_json_atomically(folder / "reviews.json", counts)
    for words, number in counts.items():
        print(f"{number:8,} {words.replace('_', ' ')}")
    print(f"the reviewed set is in {folder}")


def _reviewed(
    rows: Iterator[SetRow], reviews: Reviews, counts: Counter[str], known: set[str]
) -> Iterator[dict[str, Any]]:
    """Rows as they are after their reviews, each with a field ``review``; counts what was done."""
    for one in rows:
        known.add(row_id(one.row))
        row, ruling, num_stale = reviews.apply(one.row)
        counts["rows"] += 1
        counts["not_reviewed"] += ruling is None
        for decision in ("accept", "edit", "reject"):
            # Added where it is 0, too: each has its line in what is printed.
            counts[f"{decision}ed"] += ruling is not None and ruling.decision == decision
        counts["reviews_of_another_version"] += num_stale
        if row is not None:
            yield {**row, "review": _provenance(ruling)}


def _provenance(ruling: Ruling | None) -> dict[str, Any]:
    """The field ``review``: of one form in all rows, so that a table of them has one schema."""
    if ruling is None:
        return {"decision": "", "reviewers": [], "reviewed_at": ""}
    return {
        "decision": ruling.decision,
        "reviewers": list(ruling.reviewers),
        "reviewed_at": ruling.reviewed_at.isoformat(),
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Records for JSON, with intervals as three values."""
    if not isinstance(value, Mapping):
        return value
    return {name: _plain(item) for name, item in record_row(value).items()}


def _source(one: SetRow) -> str:
    # Others' text, which may be of any length.
    return str(one.row.get("source") or "unknown")[:100]


def _luck(seed: int, name: str) -> bytes:
    # Not the hash of the draw, by which rows of large sources and causes would come first. An id
    # may hold what UTF-8 cannot say.
    return hashlib.sha256(f"order\0{seed}\0{name}".encode(errors="backslashreplace")).digest()


def _output(config: ReviewInstructionsConfig, name: str) -> Path:
    return Path(config.output) if config.output else Path(config.run_dir) / name
