"""``SystemTableConfig``: the rows and columns of ``evaluate table``."""

from dataclasses import dataclass, field

from vidreason.evaluation.config import EvaluationConfig


@dataclass(kw_only=True)
class SystemTableConfig:
    """Rows and columns of one table of systems, each under one or more seeds."""

    rows: dict[str, list[str]] = field(default_factory=dict)
    """By title, a system's predictions that ``evaluate`` wrote, one a seed: files such as
    ``RUN/evaluation/predictions-none.jsonl``, or run folders for their full model. The others are
    compared with the first row."""
    columns: dict[str, list[str]] = field(default_factory=dict)
    """By corpus, groups of its questions; ``all`` is the first score of its protocol. Empty for
    ``all`` of every corpus of the first row."""
    output_dir: str = ""
    """Folder of ``systems.md`` and ``systems.json``; empty to print only."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """How answers are scored; how they were given is in the predictions."""

    def __post_init__(self) -> None:
        """Check that there is something to compare.

        Raises:
            ValueError: There are too few rows, or one has no predictions or one file twice.
        """
        if len(self.rows) < 2:
            raise ValueError(
                f"rows: expected two systems or more, found {list(self.rows)}; name each with its "
                "predictions, such as rows.ours=[runs/ours-0,runs/ours-1]"
            )
        for title, files in self.rows.items():
            if not files:
                raise ValueError(f"rows.{title} is empty; name a file of predictions for each seed")
            twice = sorted({file for file in files if files.count(file) > 1})
            if twice:
                raise ValueError(f"rows.{title} names {twice} twice; each seed is one file")
        empty = [corpus for corpus, groups in self.columns.items() if not groups]
        if empty:
            raise ValueError(f"columns.{empty[0]} is empty; name groups, such as [all]")
