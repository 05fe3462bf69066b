"""The end of a run in words: how clips ended, what was paid, and what to do next."""

from collections.abc import Mapping
from pathlib import Path

from vidreason.teacher.journal_records import Counts


def summary_lines(counts: Counts, facts: Mapping[str, str], folder: Path) -> list[str]:
    """Return the lines that a run ends with."""
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
        f"  python -m experiments.review_instructions run_dir={folder.parent}",
        f"  python -m experiments.fit --config {folder}/training.yaml",
    ]
    return lines
