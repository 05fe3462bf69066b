"""The store's table of weights: content hashes of a perceiver's weights by their location.

An entry's key names the content of the weights. A cluster that only trains from a store may have
neither the videos nor the weights; so the content hash of all weights is written down with the
location that the configuration gives them. The encoders that take their sizes from a folder
(``image`` and ``vjepa2``) still need its configuration files.
"""

import json
from hashlib import sha256
from pathlib import Path

from vidreason.atomic_file import write_atomically
from vidreason.perception.weights import hash_weights
from vidreason.video.file_hashes import FileHashes
from vidreason.video.unrecorded import recorded_if_possible

RECORD_SUFFIX = ".json"
_NOT_RECORDED = (
    "content hashes of weights are not recorded there; the weights have to stay where they are"
)


class WeightsTable:
    """Content hashes of weights by location; each file is read for it once, until it changes.

    Args:
        folder: Where the hashes are: a JSON file a location, and the logs of :class:`FileHashes`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = FileHashes(folder)

    def content_hash(self, location: str) -> str:
        """The content hash of the weights at ``location``; the recorded one if they are not there.

        Args:
            location: As configured: a file, a folder, or a repository of the Hub, which is not
                downloaded if its hash is known.

        Raises:
            ValueError: There are no weights at ``location``, and there never were any.
        """
        # Weights that are here are hashed: others may lie there by now.
        recorded = self.recorded(location)
        if recorded is not None and not _is_here(location):
            return recorded
        try:
            content_hash = self.present_hash(location)
        except ValueError as error:
            if recorded is not None:
                return recorded
            raise ValueError(
                f"{error}; nor does the store in {str(self.folder.parent)!r} know what was there: "
                "put them there, or give the location that they had when the store was filled "
                f"(it knows {', '.join(map(repr, self._locations())) or 'none'})"
            ) from error
        if content_hash != recorded:
            with recorded_if_possible(self.folder, _NOT_RECORDED):
                record = json.dumps({"place": location, "sha256": content_hash})
                write_atomically(self._path(location), f"{record}\n")
        return content_hash

    def present_hash(self, location: str) -> str:
        """The content hash of the weights that are at ``location`` now.

        Raises:
            ValueError: There are none.
        """
        return hash_weights(location, self._files.of)

    def recorded(self, location: str) -> str | None:
        """The content hash that was found at ``location`` last, or None."""
        try:
            return str(json.loads(self._path(location).read_bytes())["sha256"])
        except FileNotFoundError:
            return None

    def _locations(self) -> list[str]:
        records = self.folder.glob(f"*{RECORD_SUFFIX}")
        return sorted(json.loads(path.read_bytes())["place"] for path in records)

    def _path(self, location: str) -> Path:
        # A location may have signs in it that a file name cannot have.
        name = sha256(location.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self.folder / f"{name}{RECORD_SUFFIX}"


def _is_here(location: str) -> bool:
    """Return whether ``location`` is a path, or a repository that is in the cache."""
    if Path(location).exists():
        return True
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(location, "config.json"), str)
    except HFValidationError:
        return False  # a path
