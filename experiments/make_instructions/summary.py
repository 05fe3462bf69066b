"""The end of a run in words: how clips ended, what was paid, and what to do next."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from vidreason.teacher.journal_records import Counts


def summary_lines(
    counts: Counts, facts: Mapping[str, str], folder: Path, media_dir: str
) -> list[str]:
    """Return the lines that a run ends with.

    Args:
        counts: How clips ended.
        facts: What else is to be said, by name.
        folder: The set.
        media_dir: The folder that its videos lie in, for the page of the review.
    """
    review = [f"run_dir={folder}", *([f"media_dir={media_dir}"] if media_dir else [])]
    lines = [f"{counts.num_ended:,} of {counts.num_clips:,} clips have ended:"]
    lines.append(f"  accepted {counts.accepted:,}")
    for name in ("rejected", "failed"):
        by_cause = getattr(counts, name)
        lines.append(f"  {name} {by_cause.total():,}")
        lines += [f"    {cause} {number:,}" for cause, number in by_cause.most_common()]
    if counts.failed["endpoint"] or counts.failed["unreadable_video"]:
        lines.append("  (the same command looks at unreadable videos and asks the endpoint again)")
    lines += [f"{name}: {value}" for name, value in facts.items() if value]
    lines += [
        f"the set is in {folder}",
        "next:",
        f"  python -m experiments.review_instructions page {shlex.join(review)}",
        "  python -m experiments.fit --config experiments/configs/stage2_instruction.yaml --config "
        + shlex.quote(str(folder / "training.yaml")),
    ]
    return lines
