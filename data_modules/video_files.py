"""Videos of a benchmark, found by name in whatever container and case of its extension."""

import os
from pathlib import Path

from data_modules.files import Files

VIDEO_EXTENSIONS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg")
"""Extensions; of two containers of one video, the first of these is taken."""

_OTHER_EXTENSIONS = (".gif", ".jpg", ".jpeg", ".png", ".webp")


class VideoFolder:
    """Finds videos below one folder.

    Args:
        files: The corpus' files.
        folders: Of several, the first that is there is taken, or else the first.
    """

    def __init__(self, files: Files, *folders: str) -> None:
        self._files = files
        there = (folder for folder in folders if len(folders) > 1 and files.is_folder(folder))
        self.path = files.path(next(there, folders[0]))
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
            # Not recorded: examples name their videos, whether or not these are there.
            if os.path.isfile(path):  # also of a name that no file can have
                return str(path)
        # Then in another container or case.
        for path in paths:
            name = self._listing(path.parent).get(path.stem)
            if name is not None:
                return str(path.parent / name)
        return None

    def _listing(self, folder: Path) -> dict[str, str]:
        """Stem -> file name of the videos of a folder."""
        if folder not in self._listings:
            names = self._files.names(folder)
            self._listings[folder] = {
                name[: -len(extension)]: name
                # The first extension of a stem is written last, and wins.
                for extension in reversed(VIDEO_EXTENSIONS)
                for name in names
                if name.lower().endswith(extension)
            }
        return self._listings[folder]


def _with_extension(name: str) -> str:
    has_extension = name.lower().endswith((*VIDEO_EXTENSIONS, *_OTHER_EXTENSIONS))
    return name if has_extension else f"{name}{VIDEO_EXTENSIONS[0]}"
