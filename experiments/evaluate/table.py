"""``evaluate table``: systems under several seeds, from predictions that are already there."""

import json
from pathlib import Path

from experiments.evaluate.table_config import SystemTableConfig
from experiments.kept_runs import read_control
from vidreason.atomic_file import write_atomically
from vidreason.evaluation.items import Column
from vidreason.evaluation.scoreboard import scoring_protocols
from vidreason.evaluation.system_comparison import compare_systems
from vidreason.evaluation.system_tables import (
    system_notes,
    system_records,
    system_tables,
)
from vidreason.markdown import escaped, one_line

TABLES_FILE, RECORDS_FILE = "systems.md", "systems.json"
_FULL_MODEL = "none"


def write_system_tables(config: SystemTableConfig) -> None:
    """Print the tables of ``config.rows``; write them and all numbers to ``config.output_dir``.

    Raises:
        ValueError: A file is missing or damaged, the systems were not asked the same questions, two
            seeds of a row are one model or two controls, or there is no such column.
    """
    systems = {
        title: [
            read_control(location, _FULL_MODEL, f"{title} ({location})") for location in locations
        ]
        for title, locations in config.rows.items()
    }
    columns: list[Column] = [
        (corpus, group) for corpus, groups in config.columns.items() for group in groups
    ]
    protocols = scoring_protocols(config.evaluation)
    comparison = compare_systems(systems, columns, protocols)
    tables, notes = system_tables(comparison), system_notes(systems)
    print("\n\n".join([*(table.to_text() for table in tables), *map(one_line, notes)]))
    if config.output_dir:
        folder = Path(config.output_dir)
        texts = [*(table.to_markdown() for table in tables), *map(escaped, notes)]
        write_atomically(folder / TABLES_FILE, "\n\n".join(texts) + "\n")
        records = {"rows": config.rows, "cells": system_records(comparison), "notes": notes}
        text = json.dumps(records, indent=1, allow_nan=False)
        write_atomically(folder / RECORDS_FILE, text + "\n")
