"""Local paths in a reasoner folder, which must not be published with it."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vidreason.pretrained.folder_config import CARD_FILE, CONFIG_FILE, LANGUAGE_MODEL_FOLDER
from vidreason.pretrained.frozen_parts import BY_HASH, IN_PACKAGE, FrozenPart, locate

_FOLDER_FILES = re.compile(
    r"config\.json|fusion\.safetensors|generation_config\.json|README\.md|(verifier|futures)\.json|"
    rf"{LANGUAGE_MODEL_FOLDER}/[^/]+\.(json|safetensors|jinja|txt|model)"
)
# /x, ~/x, ./x, ../x, C:\x
_PATH = re.compile(r"(~|\.{1,2})?/[^\s`'\"|]+|[A-Za-z]:\\\S+")
# The same in a code span, or a whole one after a colon.
_CARD_PATH = re.compile(r"(?<=`)(?:~|\.{1,2})?/[^`\s]+(?=`)|(?<=: )/[^\s,`]+")
_TOKENIZER_FILE = "tokenizer.json"
"""Holds a vocabulary, in which anything may look like a path."""


@contextmanager
def published_copy(folder: Path) -> Iterator[Path]:
    """A copy of a reasoner folder that names frozen parts by their content, not by local paths.

    Who loads it says where such a part lies: ``--part NAME=PATH``. Weights are links to the
    folder's own; the copy is gone at the end.
    """
    names = _published_names(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")))
    # Beside the folder, because links of files end at the file system.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".published-") as scratch:
        copy = Path(scratch) / "reasoner"
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            target = copy / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".json" and path.name != _TOKENIZER_FILE:
                values = _renamed(json.loads(path.read_text(encoding="utf-8")), names)
                target.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            elif target == copy / CARD_FILE:
                text = path.read_text(encoding="utf-8")
                for local, name in names.items():
                    text = text.replace(local, name)
                # What else the card tells of, such as a model that was merged, by its name alone.
                text = _CARD_PATH.sub(lambda paths: Path(paths[0]).name, text)
                target.write_text(text, encoding="utf-8")
            else:
                os.link(path, target)
        yield copy


def _published_names(config: Any) -> dict[str, str]:  # noqa: ANN401 - JSON
    """Map each local path of a part in a folder's ``config.json`` to its published name."""
    parts = [FrozenPart(**part) for part in config["frozen_parts"].values()]
    names = {
        part.source: f"{BY_HASH}{part.sha256}" for part in parts if Path(part.source).is_absolute()
    }
    # The adapters name a base of the package by its path on this machine.
    names |= {locate(part): part.source for part in parts if part.source.startswith(IN_PACKAGE)}
    return dict(sorted(names.items(), key=lambda item: -len(item[0])))  # the longest first


def _renamed(value: Any, names: dict[str, str]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


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
        if not _FOLDER_FILES.fullmatch(name):
            lines.append(f"{name}: a file that is no part of a reasoner folder")
        elif path.suffix == ".json" and path.name != _TOKENIZER_FILE:
            values = json.loads(path.read_text(encoding="utf-8"))
            lines += [
                f"{name}: {field} is the local path {text!r}" for field, text in _local(values)
            ]
        elif name == CARD_FILE:
            text = path.read_text(encoding="utf-8")
            paths = dict.fromkeys(_CARD_PATH.findall(text))
            lines += [f"{name}: the local path {path!r}" for path in paths]
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
