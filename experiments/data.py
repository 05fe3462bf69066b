"""Look at the data before training on it: ``python -m experiments.data check --config FILE.yaml``.

``check`` reads the annotations of every corpus, looks whether the videos are there, opens a sample
of them, and compares the training data with what the model will be evaluated on: by video id, file,
text and pictures. It prints tables and writes ``data_health.json`` and the rows left out
(``data_check/skipped-*.jsonl``) into the run folder. The exit status is 1 if something is wrong
beyond the thresholds (``data_check.*``, ``data.max_unreadable_fraction``), and 2 for a wrong
configuration.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_modules.contamination import KINDS, ContaminationReport
from data_modules.data_check import DataCheckConfig, DataReport, check_data
from data_modules.health import PERCENTILES, PRESENT, CorpusHealth
from data_modules.prompt_lengths import PromptLimit
from experiments.experiment_config import ExperimentConfig
from experiments.program import exit_status
from experiments.start_checks.checks import check_start
from vidreason.config import load_config
from vidreason.evaluation.report import Table
from vidreason.reasoning.language_model import at_hand, load_tokenizer
from vidreason.secrets import without_controls

REPORT_FILE = "data_health.json"
SCRATCH_FOLDER = "data_check"


@dataclass(kw_only=True)
class DataCommandConfig(ExperimentConfig):
    """An experiment's configuration, and how closely its data are looked at."""

    data_check: DataCheckConfig = field(default_factory=DataCheckConfig)


def check(config: DataCommandConfig) -> int:
    """Print and write the health report; return 1 if there are problems."""
    check_start(config, "data check")
    run_dir = Path(config.run_dir)
    limit, unknown = prompt_limit(config)
    report = check_data(config.data, config.data_check, run_dir / SCRATCH_FOLDER, limit)
    print(without_controls(report_text(report)))
    if unknown:
        print(f"lengths of prompts: not looked at: {unknown}")
    path = run_dir / REPORT_FILE
    path.write_text(json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n")
    print(f"all numbers are in {path}")
    return 1 if report.problems else 0


def prompt_limit(config: ExperimentConfig) -> tuple[PromptLimit | None, str]:
    """Which prompts are too long, as ``fit`` finds them; None where there is no tokenizer, and why.

    Nothing is downloaded for it.
    """
    try:
        tokenizer = load_tokenizer(at_hand(config.reasoner.language_model))
    except ValueError as error:
        return None, str(error)
    limit = PromptLimit(
        tokenizer,
        config.data.max_text_tokens,
        config.data.long_prompts,
        config.reasoner.system_prompt,
    )
    return limit, ""


def report_text(report: DataReport) -> str:
    """The report for a terminal."""
    corpora = report.corpora
    parts = [_rows_table(corpora).to_text(), _videos_table(corpora).to_text()]
    parts += [_notes(health) for health in corpora]
    if report.contamination is None:
        parts.append("contamination: not looked for; it takes training data and something to test")
    else:
        parts.append(_contamination(report.contamination, report.num_not_hashed))
    parts.append("\n".join(f"PROBLEM {line}" for line in report.problems) or "no problems found")
    return "\n\n".join(parts)


def _rows_table(corpora: Sequence[CorpusHealth]) -> Table:
    header = (
        "corpus",
        "examples",
        "rows read",
        "hidden",
        "left out",
        "repeated ids",
        "question words",
        "answer",
    )
    rows = [
        (
            health.name,
            f"{health.num_examples:,}",
            _rows_read(health),
            f"{health.num_without_reference:,}",
            f"{health.num_skipped:,}",
            f"{health.num_duplicate_ids:,}",
            _percentiles(health.question_words),
            _percentiles(health.answer_words),
        )
        for health in corpora
    ]
    shown = ", ".join(map(str, PERCENTILES))
    return Table(f"Annotations (words: percentiles {shown})", header, tuple(rows))


def _videos_table(corpora: Sequence[CorpusHealth]) -> Table:
    header = ("corpus", "videos", "examples without", "probed", "unreadable", "seconds", "sizes")
    rows = [
        (
            health.name,
            f"{health.num_videos:,}",
            f"{health.absent_fraction:.1%}",
            f"{health.num_probed:,}",
            f"{sum(health.unreadable.values()):,}",
            _percentiles(health.duration_seconds),
            " ".join(list(health.resolutions)[:3]) or "-",
        )
        for health in corpora
    ]
    return Table(f"Videos (seconds: percentiles {PERCENTILES})", header, tuple(rows))


def _notes(health: CorpusHealth) -> str:
    """What the tables have no room for."""
    lines = [f"{health.name} in {health.root}", f"  licence: {health.licence}"]
    absent = {cause: n for cause, n in health.media.items() if cause not in PRESENT}
    for title, counts in (
        ("licence tags", health.license_tags),
        ("left out", health.skipped),
        ("read, but not all of it", health.row_remarks),
        ("videos not there, by examples", absent),
        ("probed videos that cannot be read", health.unreadable),
        ("probed videos whose times are not all their own", health.remarks),
    ):
        lines += [f"  {title}: {_counts(counts)}"] if counts else []
    lines += [f"    {example}" for example in health.unreadable_examples[:3]]
    lines += [f"    malformed: {line}" for line in health.malformed]
    lines += [f"  cannot be used: {health.error}"] if health.error else []
    return "\n".join(lines)


def _contamination(report: ContaminationReport, num_not_hashed: int) -> str:
    header = ("found in training by", "evaluation videos", "training examples")
    rows = tuple(
        (
            kind,
            str(report.num_evaluation_videos_found[kind]),
            str(report.num_training_examples[kind]),
        )
        for kind in KINDS
    )
    title = (
        f"Contamination: {report.contaminated_fraction:.1%} of {report.num_evaluation_videos} "
        "evaluation videos by id, file or pictures"
    )
    lines = [
        Table(title, header, rows).to_text(),
        f"pictures compared: {report.num_evaluation_hashes} evaluation and "
        f"{report.num_training_hashes} training videos; {num_not_hashed} could not be read",
        f"texts compared with {report.num_evaluation_texts} different ones; the same words may be "
        "said of different videos",
    ]
    for kind in KINDS:
        shown = [match for match in report.matches if match.kind == kind][:3]
        lines += [f"  {kind}: {m.training_id} ~ {m.evaluation_id} ({m.detail})" for m in shown]
    return "\n".join(lines)


def _rows_read(health: CorpusHealth) -> str:
    """``8,563 of 8,564 official``, or of the rows of these files."""
    read = health.num_rows - health.num_skipped
    if not read and health.num_examples:
        return "-"  # of a format without rows, such as tar shards
    if health.official_rows is None:
        return f"{read:,} of {health.num_rows:,}"
    return f"{read:,} of {health.official_rows:,} official"


def _percentiles(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values) or "-"


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    return "; ".join(f"{number} x {cause}" for cause, number in ordered)


COMMANDS: dict[str, Callable[[DataCommandConfig], int]] = {"check": check}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of ``COMMANDS``; the exit status is 1 for problems, 2 for a wrong command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments.pop(0) if arguments and arguments[0] in COMMANDS else ""
    program = f"python -m experiments.data {command or '{' + ','.join(COMMANDS) + '}'}"

    def run() -> int:
        config = load_config(
            DataCommandConfig,
            arguments,
            program=program,
            description="Report on the health of the configured corpora.",
        )
        if not command:
            raise ValueError(f"the first argument must be one of {', '.join(COMMANDS)}")
        return COMMANDS[command](config)

    return exit_status("data", run)


if __name__ == "__main__":
    sys.exit(main())
