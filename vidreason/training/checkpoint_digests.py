"""SHA-256 digests in checkpoints, by which damage is found before anything is used.

A file carries the digest of its own content as the comment of its zip archive, at its very end: it
is written, renamed and copied with the file. A folder has ``SHA256SUMS``, as ``sha256sum -c`` reads
it, over all its other files. Both are written before the checkpoint gets its name.

Checkpoints of format version 1 have no digest. Of such a file the CRC-32 of each record is checked,
which torch has always written and never compares; of such a folder nothing can be checked.
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from typing_extensions import override

SUMS_FILE = "SHA256SUMS"
"""In a folder: a line of digest and name for each of its other files."""

_COMMENT = b"vidreason sha256 "
_END_RECORD_BYTES = 22
"""Of a zip archive's last record, the comment's length in two bytes at its end included."""
_DIGEST = re.compile(rb"[0-9a-f]{64}")
_TRAILER_BYTES = len(_COMMENT) + 64
_BLOCK_BYTES = 2**22
_OWN_FILE = re.compile(r"\.metadata|.*\.distcp|.*\.pt|latest")
"""Names of what torch's distributed format, or DeepSpeed, consists of."""


class DigestingFile(io.RawIOBase):
    """A file to write a zip archive to; :meth:`seal` puts the digest of what was written behind it.

    Args:
        file: Opened for writing, empty.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, data: Any) -> int:
        self._digest.update(data)
        self._file.write(data)
        return len(data)

    @override
    def flush(self) -> None:
        self._file.flush()

    def seal(self) -> None:
        """Write the digest as the archive's comment; nothing may be written after it."""
        self._file.seek(-2, io.SEEK_END)
        self._file.write(_TRAILER_BYTES.to_bytes(2, "little"))
        self._file.write(_COMMENT + self._digest.hexdigest().encode())
        self._file.flush()


def recorded_digest(path: Path) -> str | None:
    """The digest that a file ends with; None for a file without one."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        if size < _TRAILER_BYTES + _END_RECORD_BYTES:
            return None
        file.seek(-_TRAILER_BYTES - _END_RECORD_BYTES, io.SEEK_END)
        end, length = file.read(_END_RECORD_BYTES - 2), file.read(2)
        trailer = file.read()
    digest = trailer.removeprefix(_COMMENT)
    if (
        not end.startswith(b"PK\x05\x06")
        or length != _TRAILER_BYTES.to_bytes(2, "little")
        or not trailer.startswith(_COMMENT)
        or not _DIGEST.fullmatch(digest)
    ):
        return None
    return digest.decode()


def content_digest(path: Path) -> str:
    """The digest of a sealed file's content: of all bytes as they were before :meth:`seal`."""
    digest = hashlib.sha256()
    remaining = path.stat().st_size - _TRAILER_BYTES - 2
    with path.open("rb", buffering=0) as file:
        block = memoryview(bytearray(_BLOCK_BYTES))
        while remaining > 0 and (count := file.readinto(block[: min(remaining, _BLOCK_BYTES)])):
            digest.update(block[:count])
            remaining -= count
    digest.update(bytes(2))  # the length of the comment that was not there yet
    return digest.hexdigest()


def file_damage(path: Path) -> str | None:
    """Why a sealed file is not what was written; empty if it is, None if it has no digest."""
    recorded = recorded_digest(path)
    if recorded is None:
        return "the digest at its end is damaged" if _has_rest_of_digest(path) else None
    found = content_digest(path)
    if found == recorded:
        return ""
    return f"its content has the sha256 {found[:12]}..., and was written with {recorded[:12]}..."


def _has_rest_of_digest(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(file.seek(0, io.SEEK_END) - 2 * _TRAILER_BYTES, 0))
        return _COMMENT in file.read()


def crc_damage(path: Path) -> str:
    """The first record of a zip archive whose CRC-32 is not that of its bytes; empty for none."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        return str(error) or type(error).__name__
    return "" if name is None else f"its record {name} has another CRC-32 than was written"


def folder_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The digests of files of a folder, by their names relative to it."""
    digests = {}
    for name in names:
        with (folder / name).open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def digested_names(folder: Path) -> list[str]:
    """The names of a checkpoint folder's own files; what else lies there is left alone."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return [name for name in names if _OWN_FILE.fullmatch(name.rpartition("/")[2])]


def write_sums(folder: Path, digests: Mapping[str, str]) -> None:
    """Write ``SHA256SUMS`` into a folder of which all files have got their digests."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    (folder / SUMS_FILE).write_text(lines)


def folder_damage(folder: Path) -> str | None:
    """Which file of a folder is not what was written; empty for none, None without digests."""
    try:
        lines = (folder / SUMS_FILE).read_text().splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        return f"its {SUMS_FILE} cannot be read: {error}"
    expected = {}
    for line in lines:
        digest, _, name = line.partition("  ")
        if not _DIGEST.fullmatch(digest.encode()) or not name:
            return f"its {SUMS_FILE} is damaged"
        expected[name] = digest
    if unlisted := set(digested_names(folder)) - expected.keys():
        return f"its {SUMS_FILE} does not list {min(unlisted)}"
    for name, digest in expected.items():
        if not (folder / name).is_file():
            return f"its file {name} is missing"
        found = folder_digests(folder, [name])[name]
        if found != digest:
            return f"its file {name} has the sha256 {found[:12]}..., not {digest[:12]}..."
    return ""
