"""The files of a corpus, handed to its reader, which has no other way to them.

Whatever a reader asks is recorded with the answer's state: a file's size and time, or that there is
none. So an index knows what it was made from, and that it is out of date, by itself.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from data_modules.index_cache import digest
from vidreason.video.media import (
    file_system,
    file_version,
    is_on_network,
    is_remote,
    transport_errors_as_os_errors,
)

_SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

Inputs = dict[str, str]
"""From what was looked at (``file:<path>``, ``folder:<path>``, ``tree <suffixes>:<path>``,
``shards:<folder>``) to its state then."""


class Files:
    """The files below the root of a corpus.

    A name that is a text is relative to the root; a ``Path``, as the methods return, is not.

    Args:
        root: The corpus' folder; for tar shards also an fsspec URL.

    Attributes:
        inputs: Everything that was looked at, with its state before it was read.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        self.inputs: Inputs = {}
        self._trees: list[tuple[str, tuple[str, ...]]] = []

    def path(self, name: str | Path, *more: str) -> Path:
        """The path of a file, for messages and as media; nothing is looked at."""
        return Path(name, *more) if isinstance(name, Path) else Path(self.root, name, *more)

    def open(self, name: str | Path) -> BinaryIO:
        """Open a file.

        Raises:
            ValueError: There is none; the message shows what its folder holds.
        """
        path = self.path(name)
        if self.exists(name):
            return path.open("rb")
        folder = path.parent
        if not folder.is_dir():
            raise ValueError(f"there is no file {path}: the folder {folder} does not exist")
        beside = sorted(entry.name for entry in folder.iterdir())[:8]
        raise ValueError(
            f"there is no file {path}; the folder holds {', '.join(beside) or 'nothing'}: check "
            "the corpus' root and split"
        )

    def exists(self, name: str | Path) -> bool:
        """Return whether there is a file of this name."""
        self._record("file", name)
        return os.path.isfile(self.path(name))  # False for a name that no file can have, too

    def first(self, *names: str | Path) -> Path:
        """The first of some files that is there, or else the first of them."""
        return self.path(next(filter(self.exists, names), names[0]))

    def is_folder(self, name: str | Path) -> bool:
        """Return whether there is a folder of this name."""
        self._record("folder", name)
        return os.path.isdir(self.path(name))

    def names(self, folder: str | Path) -> list[str]:
        """Names of the files and folders in a folder, sorted; none where there is no folder."""
        return sorted(os.listdir(self.path(folder))) if self.is_folder(folder) else []

    def glob(self, folder: str | Path, pattern: str) -> list[Path]:
        """Paths in a folder that match a pattern, sorted by name."""
        self._record("folder", folder)
        return sorted(self.path(folder).glob(pattern))

    def record_tree(self, folder: str | Path, *suffixes: str) -> None:
        """Record all files below a folder at once, of any or of some suffixes.

        For files of which there are too many to record each, or that a library opens.
        """
        self._record(f"tree {' '.join(suffixes)}", folder)
        self._trees.append((f"{os.path.abspath(self.path(folder))}{os.sep}", suffixes or ("",)))

    def shards(self, folder: str) -> dict[str, tuple[int, str]]:
        """The tar shards below a folder; see :func:`list_shards`."""
        location = f"{self.root.rstrip('/')}/{folder}"
        self._record("shards", location)
        return list_shards(location)

    def _record(self, kind: str, name: str | Path) -> None:
        path = str(name) if is_remote(str(name)) else os.path.abspath(self.path(name))
        # A tree is recorded as a whole.
        if any(path.startswith(tree) and path.endswith(ends) for tree, ends in self._trees):
            return
        key = f"{kind}:{path}"
        # Before it is read: what changes while it is read makes the index outdated.
        if key not in self.inputs:
            self.inputs[key] = _state(key)


def unchanged(inputs: Mapping[str, str]) -> bool:
    """Return whether everything that was looked at is as it was then."""
    return all(_state(key) == state for key, state in inputs.items())


def list_shards(folder: str) -> dict[str, tuple[int, str]]:
    """The tar shards below ``folder``, in order of their names, by one listing.

    Compressed ones are among them, so that they are missed.

    Args:
        folder: A path or an fsspec URL; folders in it are listed too.

    Returns:
        From each shard's path or URL to its size in bytes and its version, as in
        :class:`vidreason.video.media.MediaIdentity`.

    Raises:
        OSError: The folder cannot be listed.
    """
    with transport_errors_as_os_errors():
        url = folder if is_remote(folder) else f"file://{os.path.abspath(folder)}"
        store, path = file_system(url)
        # Of a folder that a server does not list, find says that it holds nothing.
        if is_on_network(url):
            store.ls(path)
        listed = store.find(path, detail=True)
    return {
        _with_protocol(str(name), folder): (int(info["size"]), file_version(info))
        for name, info in sorted(listed.items())
        if name.lower().endswith(_SHARD_SUFFIXES)
    }


def _with_protocol(name: str, folder: str) -> str:
    """The path or URL of what a store calls ``name``, with the protocol that ``folder`` has."""
    protocol, separator, _ = folder.partition("://") if is_remote(folder) else ("", "", "")
    if not separator or "://" in name:  # http names files by their URLs
        return name
    return f"{protocol}://{name if protocol == 'file' else name.lstrip('/')}"


def _state(key: str) -> str:
    kind, _, path = key.partition(":")
    try:
        if kind == "shards":
            return digest(list_shards(path))
        if kind.startswith("tree"):
            return _tree_state(path, tuple(kind.split()[1:]) or ("",))
    except (OSError, ValueError):  # gone, or a name that no folder can have
        return "absent"
    return _file_state(path, is_folder=kind == "folder")


def _file_state(path: str, *, is_folder: bool = False) -> str:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # gone, or a name that no file can have
        return "absent"
    return f"{status.st_mtime_ns}" if is_folder else f"{status.st_size} {status.st_mtime_ns}"


def _tree_state(folder: str, suffixes: tuple[str, ...]) -> str:
    """Number of the files below a folder, and the sum of hashes of name, size and time.

    A dangling link, or a file that goes meanwhile, is one of them without size and time.
    """
    number = total = 0
    for parent, _, names in os.walk(folder):
        for path in (os.path.join(parent, name) for name in names if name.endswith(suffixes)):
            text = f"{path}\0{_file_state(path)}"
            # Added up, so that the order in which a file system lists its files does not matter.
            hashed = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8)
            number, total = number + 1, total + int.from_bytes(hashed.digest(), "big")
    return f"{number} {total % 2**64:x}"
