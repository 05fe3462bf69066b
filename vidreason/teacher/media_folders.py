"""Where the videos of a set lie, and the links that let the reader find them.

A set holds no video. Its rows name them as ``<source>/<path>`` below ``videos/``, and
``videos/<source>`` is a link to the source's folder on this machine. The reader opens no file
outside of a corpus' root unless ``media_dir`` in its configuration allows the folder, so the
configuration is written too.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from vidreason.atomic_file import write_atomically
from vidreason.teacher.clip import Clip
from vidreason.video.media import is_remote, parse_member

VIDEOS = "videos"
TRAINING_FILE = "training.yaml"
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class MediaFolders:
    """Folders of the sources' videos.

    Args:
        roots: Folders by source, where they are known; a source without one has the folder that all
            of its videos share.

    Attributes:
        remarks: Why a source has no folder, or no link, by source.
    """

    def __init__(self, roots: Mapping[str, str]) -> None:
        self.remarks: dict[str, str] = {}
        self._given = {name: os.path.abspath(root) for name, root in roots.items() if root}
        self._folders: dict[str, str] = {}

    def survey(self, clip: Clip) -> None:
        """Take note of where a clip's video lies.

        Raises:
            ValueError: The source has a name that no folder may have.
        """
        source = clip.source
        if not _SOURCE.fullmatch(source):
            raise ValueError(
                f"the source {source!r:.100} of the clip {clip.id!r:.100} must be letters, digits, "
                "'_', '-' and '.', beginning with a letter or a digit; rename it"
            )
        if is_remote(clip.media):
            self.remarks[source] = "its videos are at a URL"
            return
        media = _file(clip.media)
        given = self._given.get(source)
        if given is not None and media.startswith(_with_slash(given)):
            self._folders.setdefault(source, given)
            return
        folder = os.path.dirname(media)
        known = self._folders.setdefault(source, folder)
        if folder != known and not folder.startswith(_with_slash(known)):
            # The folder that all videos so far have in common.
            self._folders[source] = os.path.commonpath([known, folder])

    def relative(self, clip: Clip) -> str:
        """Path of a clip's video below ``videos/``; empty where it has none."""
        folder = self._folders.get(clip.source, "/")
        if is_remote(clip.media) or folder == "/":
            return ""
        # What names the member comes after the path of its archive.
        member = parse_member(clip.media)
        rest = "" if member is None else clip.media[len(member.archive) :]
        return clip.source + _file(clip.media).removeprefix(folder) + rest

    def link(self, root: Path) -> None:
        """Make ``videos/<source>`` below ``root`` for each source.

        A folder that is there, such as a copy of the videos, is left as it is.
        """
        for source, folder in sorted(self._folders.items()):
            path = root / VIDEOS / source
            if folder == "/":
                self.remarks[source] = "its videos have no folder in common but /"
            elif not os.path.isdir(folder):
                self.remarks[source] = "the folder of its videos is not there"
            elif path.exists() and not path.is_symlink():
                self.remarks[source] = f"{VIDEOS}/{source} is there already"
            elif not (path.is_symlink() and os.readlink(path) == folder):
                path.parent.mkdir(parents=True, exist_ok=True)
                # A link to another folder: only the link goes.
                path.unlink(missing_ok=True)
                path.symlink_to(folder, target_is_directory=True)

    def write_training_file(self, root: Path, splits: Iterable[str]) -> str:
        """Write ``training.yaml``, an overlay for a training configuration.

        Its ``media_dir`` is the one folder that all sources' folders lie in. Where that would be
        ``/`` it is left out, with a comment: it would allow all files of this machine.

        Returns:
            The ``media_dir``; empty for none.
        """
        # Links are followed, as the reader compares real paths; below the set itself it opens all.
        real = sorted({os.path.realpath(path) for path in self._folders.values() if path != "/"})
        inside = _with_slash(os.path.realpath(root))
        outside = [folder for folder in real if not folder.startswith(inside)]
        shared = os.path.commonpath(outside) if outside else ""
        corpus = {"reader": "causal_vid_instruct", "root": os.path.abspath(root)}
        if shared and shared != "/":
            corpus["media_dir"] = shared
        data = {
            "train" if split == "train" else "validation": [{**corpus, "split": split}]
            for split in splits
        }
        note = "# Made with the set: python -m experiments.fit --config YOURS.yaml --config THIS\n"
        if shared == "/":
            note += f"# media_dir is missing: {', '.join(outside)} have no folder in common\n"
            self.remarks["training.yaml"] = (
                "has no media_dir: the folders of the sources have none in common; mount them "
                "below one folder, or make a set of each"
            )
        write_atomically(root / TRAINING_FILE, note + yaml.safe_dump({"data": data}))
        return corpus.get("media_dir", "")


def _file(media: str) -> str:
    """Absolute path of the file that holds a video: of a member, its archive."""
    member = parse_member(media)
    return os.path.abspath(media if member is None else member.archive)


def _with_slash(folder: str) -> str:
    # Else /data/ab would count as below /data/a.
    return folder if folder.endswith("/") else f"{folder}/"
