"""Content hashes of files (videos, weights), remembered so that each is read for it once."""

import json
from pathlib import Path

from vidreason.atomic_file import process_name
from vidreason.video.media import MediaIdentity, hash_media, media_identity
from vidreason.video.unrecorded import recorded_if_possible

_NOT_RECORDED = "content hashes are not recorded there; each process reads the files for them"


class FileHashes:
    """A cache of sha256 hashes by path or other media, size and version.

    Every process appends to a file of its own in the cache's folder, one JSON line a file, and
    reads all files when it starts. A line that a killed process left unfinished is ignored. In a
    folder that cannot be written, which is said once, hashes are known to this process only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hashes: dict[MediaIdentity, str] | None = None

    def of(self, path: str) -> str:
        """The sha256 of the file's content as hex digits.

        Raises:
            OSError: The file is missing or unreadable.
        """
        if self._hashes is None:
            self._hashes = self._read()
        identity = media_identity(path)
        if identity not in self._hashes:
            content_hash = hash_media(path)
            if media_identity(path) != identity:
                return content_hash  # still being written: right for now, but not to be remembered
            self._hashes[identity] = content_hash
            self._append(identity, content_hash)
        return self._hashes[identity]

    def _read(self) -> dict[MediaIdentity, str]:
        hashes = {}
        for file in sorted(self.folder.glob("*.jsonl")):
            for line in file.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    *identity, content_hash = json.loads(line)
                    hashes[MediaIdentity(*identity)] = content_hash
        return hashes

    def _append(self, identity: MediaIdentity, content_hash: str) -> None:
        # ASCII, so that a line cut at any byte is still text; unbuffered, so that it is one write.
        line = json.dumps([*identity, content_hash]).encode("ascii") + b"\n"
        with recorded_if_possible(self.folder, _NOT_RECORDED):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / f"{process_name()}.jsonl").open("ab", buffering=0) as file:
                file.write(line)
