"""What a reasoner folder tells, beyond the reasoner, when it is published."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from vidreason.pretrained.folder_config import CARD_FILE, LANGUAGE_MODEL_FOLDER

_OWN = re.compile(
    r"config\.json|fusion\.safetensors|generation_config\.json|README\.md|"
    rf"{LANGUAGE_MODEL_FOLDER}/[^/]+\.(json|safetensors|jinja|txt|model)"
)
_PATH = re.compile(r"(~|\.{1,2})?/[^\s`'\"|]+|[A-Za-z]:\\\S+")
_TOKENIZER_FILE = "tokenizer.json"
"""Holds a vocabulary, in which anything may look like a path."""


def told_by(folder: Path) -> list[str]:
    """Local paths in a folder's files, and files that no reasoner folder has; a line each.

    Args:
        folder: As :func:`vidreason.pretrained.folder.write_folder` wrote it, or changed since.
    """
    lines = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file():
            continue
        if not _OWN.fullmatch(name):
            lines.append(f"{name}: a file that is no part of a reasoner folder")
        elif path.suffix == ".json" and path.name != _TOKENIZER_FILE:
            values = json.loads(path.read_text(encoding="utf-8"))
            lines += [
                f"{name}: {field} is the local path {text!r}" for field, text in _local(values)
            ]
        elif name == CARD_FILE:
            text = path.read_text(encoding="utf-8")
            found = dict.fromkeys(re.findall(r"`((?:~|\.{1,2})?/[^`\s]+)`|: (/[^\s,`]+)", text))
            lines += [f"{name}: the local path {a or b!r}" for a, b in found]
    return lines


def _local(values: object, field: str = "") -> Iterator[tuple[str, str]]:
    """Texts that are paths of this machine, with the dotted names of their fields."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _local(value, f"{field}.{key}" if field else str(key))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from _local(value, f"{field}[{index}]")
    elif isinstance(values, str) and _PATH.fullmatch(values):
        yield field, values
