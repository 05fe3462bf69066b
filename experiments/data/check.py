"""``experiments.data check``: the health of the corpora, printed and written."""

import json
from pathlib import Path

from data_modules.data_check import check_data
from data_modules.prompt_lengths import PromptLimit
from experiments.data.config import DataCommandConfig
from experiments.data.report import report_text
from experiments.experiment_config import ExperimentConfig
from experiments.start_checks.checks import check_start
from vidreason.atomic_file import write_atomically
from vidreason.reasoning.language_model import at_hand, load_tokenizer
from vidreason.secrets import without_controls

REPORT_FILE = "data_health.json"
SCRATCH_FOLDER = "data_check"


def check(config: DataCommandConfig) -> int:
    """Print and write the health report; return 1 if there are problems."""
    check_start(config, "data check")
    run_dir = Path(config.run_dir)
    limit, unknown = prompt_limit(config)
    report = check_data(config.data, config.data_check, run_dir / SCRATCH_FOLDER, limit)
    # Names, causes and rows are others' texts: nothing of them moves a terminal's cursor.
    print(without_controls(report_text(report)))
    # No problem of the data: the tokenizer may be fetched before the training.
    if unknown:
        print(f"lengths of prompts: not looked at: {unknown}")
    path = run_dir / REPORT_FILE
    text = json.dumps(report, default=vars, indent=2, ensure_ascii=False)
    write_atomically(path, f"{text}\n")
    print(f"all numbers are in {path}")
    return 1 if report.problems else 0


def prompt_limit(config: ExperimentConfig) -> tuple[PromptLimit | None, str]:
    """The limit of prompts that ``fit`` has; None where there is no tokenizer, and why.

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
