"""The forms of a checkpoint on disk, and the digests by which damage is found before it is used.

A checkpoint is one file, a folder of torch's distributed format, or a folder of DeepSpeed. A file
carries the SHA-256 of its own content as the comment of its zip archive, at its very end: it is
written, renamed and copied with the file. A folder has ``SHA256SUMS`` in the form of ``sha256sum``
over all its other files. Both are written before the checkpoint gets its name.

Looking for damage reads the whole checkpoint: measured 1.4 GB/s where the processor has
instructions for SHA-256, 2 seconds for a checkpoint of 3 GB. A process looks at a checkpoint once,
as long as its size and time of change stay the same.
"""

import hashlib
import io
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from torch.distributed.checkpoint.api import CheckpointException
from typing_extensions import override

from vidreason.training.atomic_checkpoint import cause

META_FILE = "meta.pt"
"""In a folder of torch's distributed format: what is no tensor."""
METADATA_FILE = ".metadata"
SUMS_FILE = "SHA256SUMS"
"""In a folder: a line of digest and name for each of its other files."""

DAMAGE = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, OSError, RuntimeError, EOFError, IndexError),
    *(ValueError, KeyError, AttributeError, TypeError, CheckpointException),
)
"""Errors of torch that a damaged checkpoint may lead to."""

_COMMENT = b"vidreason sha256 "
_END_RECORD_BYTES = 22
"""Size of a zip archive's last record; its last two bytes are the length of the comment."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TRAILER_BYTES = len(_COMMENT) + 64  # the digest in hex digits
_BLOCK_BYTES = 2**22  # 4 MiB at a time
_CHECKPOINT_FILE = re.compile(r"\.metadata|.*\.distcp|.*\.pt|latest")
"""Names of the files that torch's distributed format and DeepSpeed write."""

_sound: dict[Path, object] = {}
"""Checkpoints without damage, with the sizes and times of change that they had then."""


def is_folder(path: Path) -> bool:
    """Return whether ``path`` is a checkpoint of torch's distributed format."""
    return (path / METADATA_FILE).is_file() and (path / META_FILE).is_file()


def is_deepspeed(path: Path) -> bool:
    """Return whether ``path`` is a folder that DeepSpeed has written."""
    return (path / "latest").is_file()


def is_complete(path: Path) -> bool:
    """Return whether there is a whole checkpoint of any form at ``path``."""
    if path.is_dir():
        return is_folder(path) or is_deepspeed(path)
    return path.is_file() and zipfile.is_zipfile(path)


def damage(path: Path) -> str:
    """Return the reason why the checkpoint at ``path`` cannot be used; empty if it is sound."""
    stamp = _stamp(path)
    if stamp is not None and _sound.get(path.absolute()) == stamp:
        return ""
    reason = _damage(path)
    if not reason:
        _sound[path.absolute()] = stamp
    return reason


def note_sound(path: Path) -> None:
    """Spare this process from reading a checkpoint again that it has just written."""
    _sound[path.absolute()] = _stamp(path)


def check_undamaged(path: Path) -> None:
    """Raise ``ValueError`` if the checkpoint at ``path`` is damaged."""
    if reason := damage(path):
        raise damaged(path, reason)


def damaged(path: Path, reason: str) -> ValueError:
    """Make the error for a checkpoint that cannot be used."""
    return ValueError(
        f"the checkpoint {str(path)!r} cannot be read: it is damaged, or not one of "
        f"experiments.fit ({reason}); copy it again, or take another of its run"
    )


class DigestingFile(io.RawIOBase):
    """A file to write a zip archive to; :meth:`seal` adds the digest of what was written.

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
        # The archive ends with the length of its comment, which is 0 so far.
        self._file.seek(-2, io.SEEK_END)
        self._file.write(_TRAILER_BYTES.to_bytes(2, "little"))
        self._file.write(_COMMENT + self._digest.hexdigest().encode())
        self._file.flush()


def folder_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the digests of files of a folder, by their names relative to it."""
    digests = {}
    for name in names:
        with (folder / name).open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def digested_names(folder: Path) -> list[str]:
    """Return the names of a folder's files that are part of the checkpoint; others are ignored."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return [name for name in names if _CHECKPOINT_FILE.fullmatch(name.rpartition("/")[2])]


def write_sums(folder: Path, digests: Mapping[str, str]) -> None:
    """Write ``SHA256SUMS`` into a folder, given the digests of all its files."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    (folder / SUMS_FILE).write_text(lines)


def _damage(path: Path) -> str:
    if not is_complete(path):
        if path.is_symlink() and not path.exists():
            return f"it links to {path.readlink()}, which is missing"
        return "it is incomplete" if path.exists() else "it is missing"
    try:
        return _folder_damage(path) if path.is_dir() else _file_damage(path)
    except DAMAGE as error:
        return cause(error)


def _file_damage(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(file.seek(0, io.SEEK_END) - _TRAILER_BYTES - _END_RECORD_BYTES, 0))
        # The end of the archive's last record, the length of the comment, the comment.
        end, length, trailer = file.read(_END_RECORD_BYTES - 2), file.read(2), file.read()
    expected = trailer.removeprefix(_COMMENT).decode("ascii", "replace")
    if (
        not end.startswith(b"PK\x05\x06")
        or length != _TRAILER_BYTES.to_bytes(2, "little")
        or not trailer.startswith(_COMMENT)
        or not _DIGEST.fullmatch(expected)
    ):
        return "the digest at its end is missing or damaged"
    digest = _content_digest(path)
    if digest == expected:
        return ""
    return f"its content has the sha256 {digest[:12]}..., and was written with {expected[:12]}..."


def _content_digest(path: Path) -> str:
    """Return the digest of all bytes as they were before :meth:`DigestingFile.seal`."""
    digest = hashlib.sha256()
    # Without the comment and its length, which sealing has changed.
    remaining = path.stat().st_size - _TRAILER_BYTES - 2
    with path.open("rb", buffering=0) as file:
        block = memoryview(bytearray(_BLOCK_BYTES))
        while remaining > 0 and (count := file.readinto(block[: min(remaining, _BLOCK_BYTES)])):
            digest.update(block[:count])
            remaining -= count
    digest.update(bytes(2))  # the length of the comment that was not there yet
    return digest.hexdigest()


def _folder_damage(folder: Path) -> str:
    try:
        lines = (folder / SUMS_FILE).read_text().splitlines()
    except FileNotFoundError:
        return "its list of digests is missing"
    except (OSError, UnicodeDecodeError) as error:
        return f"its {SUMS_FILE} cannot be read: {error}"
    # Each line is a digest and a name, as sha256sum writes them.
    expected = {}
    for line in lines:
        digest, _, name = line.partition("  ")
        if not _DIGEST.fullmatch(digest) or not name:
            return f"its {SUMS_FILE} is damaged"
        expected[name] = digest
    if unlisted := set(digested_names(folder)) - expected.keys():
        return f"its {SUMS_FILE} does not list {min(unlisted)}"
    for name, digest in expected.items():
        if not (folder / name).is_file():
            return f"its file {name} is missing"
        present = folder_digests(folder, [name])[name]
        if present != digest:
            return f"its file {name} has the sha256 {present[:12]}..., not {digest[:12]}..."
    return ""


def _stamp(path: Path) -> object:
    """Return sizes and times of change of a checkpoint's files; None if they cannot be read."""
    try:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        stats = [(file.name, file.stat()) for file in files]
    except OSError:
        return None
    # A program can set mtime back, but not ctime.
    return [(n, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for n, s in stats]
