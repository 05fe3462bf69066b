"""Where a benchmark's videos are: by name, in whatever container and case of its extension."""

import os
from collections.abc import Sequence
from pathlib import Path

from data_modules.index_cache import note_folder

VIDEO_EXTENSIONS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg")
"""Of two containers of one video, the first of these is taken."""

_OTHER_EXTENSIONS = (".gif", ".jpg", ".jpeg", ".png", ".webp")


class VideoFolder:
    """Finds videos below one folder.

    Args:
        folder: The folder; of several, the first that is there, or else the first.
    """

    def __init__(self, folder: Path, *others: Path) -> None:
        folders = (folder, *others)
        if others:
            for one in folders:
                note_folder(one)
        self.path = next((one for one in folders if one.is_dir()), folder)
        self._listings: dict[Path, dict[str, str]] = {}

    def find(self, *names: str) -> str:
        """The path of the first of ``names`` that is there, or else that of the first of them.

        Args:
            names: With the extension or, if that is not known, without; below the folder.
        """
        return self.first_there(*names) or str(self.path / _with_extension(names[0]))

    def first_there(self, *names: str) -> str | None:
        """The path of the first of ``names`` that is there; None if none is."""
        paths = [self.path / _with_extension(name) for name in names]
        for path in paths:
            if os.path.isfile(path):  # also of a name that no file can have
                return str(path)
        for path in paths:
            found = self._listing(path.parent).get(path.stem)
            if found is not None:
                return str(path.parent / found)
        return None

    def _listing(self, folder: Path) -> dict[str, str]:
        """Stem -> file name of the videos of a folder."""
        if folder not in self._listings:
            note_folder(folder)
            self._listings[folder] = _videos(_names(folder))
        return self._listings[folder]


def _with_extension(name: str) -> str:
    has_extension = name.lower().endswith((*VIDEO_EXTENSIONS, *_OTHER_EXTENSIONS))
    return name if has_extension else f"{name}{VIDEO_EXTENSIONS[0]}"


def _names(folder: Path) -> Sequence[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else ()


def _videos(names: Sequence[str]) -> dict[str, str]:
    return {
        name[: -len(extension)]: name
        for extension in reversed(VIDEO_EXTENSIONS)
        for name in names
        if name.lower().endswith(extension)
    }
