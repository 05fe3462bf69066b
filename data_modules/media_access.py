"""Media that a corpus' rows may name: files below its root, and what its configuration allows.

A data set is written by somebody else. A row of it that names ``/etc/passwd``, or an address of the
network that this machine is in, must not be opened because it stands there.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from vidreason.video.media import PROTOCOLS, is_remote, parse_member

REMOTE = "its media is at a URL; allow_remote_media: true in this corpus' configuration allows it"
OUTSIDE = (
    "its media lies outside of the corpus' root (an absolute path, '..' or a link); media_dir in "
    "this corpus' configuration allows a further folder"
)
UNSUPPORTED = f"its media has a protocol that is not read (those that are: {', '.join(PROTOCOLS)})"

_REMEMBERED_FOLDERS = 4096  # bounded: a corpus may have a million


class MediaAccess:
    """The media that the rows of one corpus may name.

    Local media have to lie below ``root`` or ``media_dir`` after links and ``..`` are followed,
    whether or not they exist; a path inside, relative or absolute or as ``file://``, is fine. Media
    at a URL have to lie below a root or ``media_dir`` that is itself one, unless ``allow_remote``.

    Folders are looked at once each, so that a corpus of many files costs no request a file.

    Args:
        root: The corpus' folder or URL; also the name of a data set on the Hub, whose media are in
            the caches of ``datasets`` and of the Hub.
        media_dir: A further folder or URL, or empty.
        allow_remote: Whether rows may name any URL of ``PROTOCOLS``.
        is_on_hub: Whether ``root`` is such a name.
    """

    def __init__(
        self, root: str, media_dir: str = "", *, allow_remote: bool = False, is_on_hub: bool = False
    ) -> None:
        self._allow_remote = allow_remote
        self._root, self._media_dir = _with_slash(root), media_dir
        self._is_file = lru_cache(_REMEMBERED_FOLDERS)(os.path.isfile)
        allowed = [location for location in (root, media_dir) if location]
        self._urls = [_with_slash(location) for location in allowed if is_remote(location)]
        folders = [path for path in map(_local_path, allowed) if path is not None]
        if is_on_hub:
            self._urls += [f"hf://datasets/{root}/", f"hf://datasets/{root}@"]
            folders += _hub_caches()
        # Links are followed once: a corpus may itself be a link, as snapshots of the Hub are.
        self._folders = [os.path.realpath(folder) for folder in folders]
        self._folders += [blobs for folder in self._folders for blobs in _hub_blobs(folder)]
        # Of the folder with the file's name; bounded, as a corpus may have a million folders.
        self._real_folder = lru_cache(_REMEMBERED_FOLDERS)(os.path.realpath)
        self._links = lru_cache(_REMEMBERED_FOLDERS)(_links)

    def refusal(self, media: str) -> str:
        """Why ``media`` may not be opened, in the same words for all such rows; empty if it may."""
        member = parse_member(media)
        file = media if member is None else member.archive
        path = _local_path(file)
        if path is not None:
            return "" if "\0" not in path and self._is_inside(path) else OUTSIDE
        if file.partition("://")[0].lower() not in PROTOCOLS:
            return UNSUPPORTED
        is_below = any(file.startswith(allowed) for allowed in self._urls) and not _climbs(file)
        return "" if self._allow_remote or is_below else REMOTE

    def located(self, media: str) -> str:
        """Return where a row's media is: below the root, or else under the same name in media_dir.

        Annotations often name videos as if they lay beside them, and a folder of their own has
        them. Where neither has the file, ``media_dir`` is named: it was given to hold them.
        """
        if not self._media_dir or is_remote(media) or parse_member(media) is not None:
            return media
        if not media.startswith(self._root) or self._is_file(media):
            return media
        return _with_slash(self._media_dir) + media.removeprefix(self._root).lstrip("/")

    def _is_inside(self, path: str) -> bool:
        folder, name = os.path.split(path)
        real_folder = str(self._real_folder(folder))
        # Only what may be a link is followed by itself; of all others their folder is.
        if name in ("", ".", "..") or name in self._links(real_folder):
            real = os.path.realpath(path)
        else:
            real = os.path.join(real_folder, name)
        return any(real.startswith(_with_slash(folder)) for folder in self._folders)


def _local_path(media: str) -> str | None:
    """The path that ``media`` names, or None if it is at a URL."""
    if not is_remote(media):
        return media
    if media.partition("://")[0].lower() == "file":
        return str(LocalFileSystem._strip_protocol(media))
    return None


def _with_slash(path: str) -> str:
    return path if path.endswith("/") else f"{path}/"


def _climbs(url: str) -> bool:
    """Return whether a part of a URL's path leads upwards, as a server may read it."""
    plain = url.lower().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/")
    return ".." in plain.replace("\\", "/").split("/")


def _links(folder: str) -> frozenset[str]:
    """The names in ``folder`` that are symbolic links, by one listing."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_symlink())
    except OSError:  # the folder is not there, or may not be listed: nor can its links be followed
        return frozenset()


def _hub_caches() -> Sequence[str]:
    """Folders in which ``datasets`` and the Hub's client put what they fetch."""
    import datasets  # slow to import
    from huggingface_hub import constants

    return [str(datasets.config.HF_DATASETS_CACHE), str(constants.HF_HUB_CACHE)]


def _hub_blobs(folder: str) -> Sequence[str]:
    """Folder that the links of a repository point to if it lies in the Hub's cache."""
    parts = Path(folder).parts
    if "snapshots" not in parts:
        return []
    repository = Path(*parts[: parts.index("snapshots")])
    return [str(repository / "blobs")] if "--" in repository.name else []
