"""Parts that follow each other: what is complete is skipped, what was interrupted is done again."""

import hashlib
import json
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidreason.atomic_file import write_atomically

PARTS_FILE = "parts.json"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the whole."""

    title: str
    """Name of the part in the record, such as ``stage 1: alignment``."""
    settings: Any
    """Settings that its result depends on, beside earlier parts: JSON values, or dataclasses."""
    outputs: tuple[Path, ...]
    """The files and folders it leaves. They are removed when the settings have changed."""
    work: Callable[[], object]
    """Does it, or continues what an interrupted call has left of its outputs."""
    repeat: bool = False
    """True to do it each time, because it takes no time."""


@dataclass(kw_only=True)
class PartRecord:
    """Record of one part; ``parts.json`` holds one for each that was begun."""

    key: str
    """Stands for the settings of this part and of those before it."""
    complete: bool = False
    seconds: float = 0.0
    """Elapsed, over all starts. A start that was killed is not counted."""
    cpu_seconds: float = 0.0
    """CPU time of this process and of the ones that it started."""
    starts: int = 0


def run_parts(parts: Sequence[Part], folder: Path) -> dict[str, PartRecord]:
    """Do the parts in their order; the record of it is ``folder/parts.json``.

    A part is skipped if its record says that it is complete under the same settings of it and all
    parts before it, and its outputs are there.

    Returns:
        The records by title.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = read_records(folder)
    key = ""
    for number, part in enumerate(parts, start=1):
        label = f"[{number}/{len(parts)}] {part.title}"
        # Keys are a chain: other settings of one part are another key of all parts after it.
        key = _key(key, part.settings)
        record = records.get(part.title)
        if record is not None and record.key != key:
            print(f"{label}: the configuration has changed; what it left is removed", flush=True)
            _remove(part.outputs)
            record = None
        if record is None:
            record = records[part.title] = PartRecord(key=key)
        there = all(output.exists() for output in part.outputs)
        if record.complete and there and not part.repeat:
            print(f"{label}: complete ({record.seconds:.0f} s before)", flush=True)
            continue
        # Done anew, so its times begin anew; those of an interrupted one go on.
        if record.complete:
            record = records[part.title] = PartRecord(key=key)
        print(f"{label} ...", flush=True)
        _do(part, record, lambda: _write_records(folder, records))
        print(f"{label}: {record.seconds:.0f} s", flush=True)
    return records


def read_records(folder: Path) -> dict[str, PartRecord]:
    """The records of the parts that were begun in ``folder``, by title."""
    path = folder / PARTS_FILE
    if not path.is_file():
        return {}
    return {title: PartRecord(**record) for title, record in json.loads(path.read_text()).items()}


def _do(part: Part, record: PartRecord, save: Callable[[], None]) -> None:
    # Written before the work, so that a start that is killed has been counted.
    record.starts += 1
    save()
    started, cpu_started = time.monotonic(), _cpu_seconds()
    try:
        part.work()
        record.complete = True
    finally:
        record.seconds += time.monotonic() - started
        record.cpu_seconds += _cpu_seconds() - cpu_started
        save()


def _cpu_seconds() -> float:
    """CPU time of this process and of its ended children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _key(previous: str, settings: object) -> str:
    # Sorted, so that the order of fields in a class is no change of settings.
    canonical = json.dumps([previous, settings], sort_keys=True, default=asdict)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _remove(outputs: Sequence[Path]) -> None:
    for output in outputs:
        if output.is_dir():
            shutil.rmtree(output)
        else:
            output.unlink(missing_ok=True)


def _write_records(folder: Path, records: dict[str, PartRecord]) -> None:
    content = {title: asdict(record) for title, record in records.items()}
    write_atomically(folder / PARTS_FILE, json.dumps(content, indent=1) + "\n")
