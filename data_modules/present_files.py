"""Video files that are there: those that annotations name, and all below a folder."""

import os
import stat
from collections.abc import Iterator
from functools import lru_cache

from data_modules.skipped_rows import SkippedRows
from data_modules.video_files import VIDEO_EXTENSIONS
from vidreason.secrets import printable
from vidreason.video.media import is_remote, parse_member

_REMEMBERED_FOLDERS = 4096


class PresentFiles:
    """Tells which media are there by one listing of each folder; nothing is opened.

    Where a whole folder is not there, such as before its videos are fetched, nothing is said of its
    files, and one remark of the folder. Of URLs and of members of archives nothing is said either.

    Args:
        remarks: Gets the remarks.
    """

    def __init__(self, remarks: list[str]) -> None:
        self._remarks = remarks
        self._names = lru_cache(_REMEMBERED_FOLDERS)(self._list)

    def refusal(self, media: str) -> str:
        """Why a video cannot be used; empty if it may be there."""
        if is_remote(media) or parse_member(media) is not None:
            return ""
        folder, name = os.path.split(media)
        names = self._names(folder)
        return "" if names is None or name in names else "its file is not there"

    def _list(self, folder: str) -> frozenset[str] | None:
        try:
            return frozenset(os.listdir(folder or "."))
        except OSError:
            if len(self._remarks) < 3:
                self._remarks.append(
                    f"the folder {printable(folder)} cannot be listed: its clips are sampled by "
                    "metadata alone"
                )
            return None


def videos_below(root: str, skipped: SkippedRows) -> Iterator[tuple[str, str]]:
    """Yield the video files below a folder, sorted: the path from the folder on, and the path.

    Left out and counted are hidden files and folders, links, files of other extensions than
    ``VIDEO_EXTENSIONS``, further names of one file, what is no regular file, and names that are not
    UTF-8 or that would be read as that of another file.

    Raises:
        ValueError: There is no such folder.
    """
    if not os.path.isdir(root):
        raise ValueError(f"{root!r} is no folder; name the folder that holds the videos")
    # device and inode of each file
    seen: set[tuple[int, int]] = set()
    for path in _files_below(root, skipped):
        try:
            status = os.lstat(path)  # of a link itself, not of what it names
        except OSError as error:
            _record(skipped, path, f"it cannot be looked at: {error.strerror}")
            continue
        cause = _refusal(path, status)
        if not cause and (status.st_dev, status.st_ino) in seen:
            cause = "another name of a file that is there already"
        if cause:
            _record(skipped, path, cause)
            continue
        seen.add((status.st_dev, status.st_ino))
        yield os.path.relpath(path, root).replace(os.sep, "/"), path


def _files_below(root: str, skipped: SkippedRows) -> Iterator[str]:
    def not_listed(error: OSError) -> None:
        _record(skipped, str(error.filename), f"a folder that cannot be listed: {error.strerror}")

    for folder, folders, names in os.walk(root, onerror=not_listed):
        for name in list(folders):
            path = os.path.join(folder, name)
            is_link = os.path.islink(path)
            if name.startswith(".") or is_link:
                _record(skipped, path, "a link to a folder" if is_link else "a hidden folder")
                # os.walk does not go into what is taken from the list.
                folders.remove(name)
        folders.sort()
        yield from (os.path.join(folder, name) for name in sorted(names))


def _refusal(path: str, status: os.stat_result) -> str:
    """Why a file below a folder is not used; empty if it is."""
    name = os.path.basename(path)
    if not name.lower().endswith(VIDEO_EXTENSIONS):
        return f"its name does not end in {', '.join(VIDEO_EXTENSIONS)}"
    if name.startswith("."):
        return "a hidden file"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if is_remote(path) or parse_member(path) is not None:
        return "its name reads as that of another file"
    if stat.S_ISLNK(status.st_mode):
        # To a file below the root, which is met by its own name, or to one that is not below it.
        return "a link to a file"
    return "" if stat.S_ISREG(status.st_mode) else "no regular file"


def _record(skipped: SkippedRows, path: str, cause: str) -> None:
    skipped.record(printable(path), cause)
