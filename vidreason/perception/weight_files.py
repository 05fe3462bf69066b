"""Search for a folder's weights in the Hugging Face layout: one file, or shards with their index.

An index counts before a single file, and safetensors before pickles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidreason.json_object import read_json_object

FORMS = ("model.safetensors", "pytorch_model.bin")
"""Weights in one file, the preferred form first; of shards, it is the beginning of the index."""
_MAX_INDEX_BYTES = 2**25  # 32 MiB


@dataclass(frozen=True)
class WeightFiles:
    """Files that hold a folder's weights."""

    names: list[str]
    """The one file, or the shards, which may be missing; empty without either."""
    index: Path | None = None
    """The file that names the shards."""
    shard_of: dict[str, str] = field(default_factory=dict)
    """From each wanted key of the index to its shard."""


def weight_files(folder: Path, prefixes: Sequence[str] = ("",)) -> WeightFiles:
    """Find the files with a folder's weights.

    Args:
        folder: The folder.
        prefixes: Of shards, those with keys that begin with one of these are wanted.

    Raises:
        ValueError: An index is damaged, or names a file outside of the folder.
    """
    indices = [folder / f"{form}.index.json" for form in FORMS]
    index = next(filter(Path.is_file, indices), None)
    if index is None:
        return WeightFiles([form for form in FORMS if (folder / form).is_file()][:1])
    stored = _shards(index)
    shard_of = {key: name for key, name in stored.items() if key.startswith(tuple(prefixes))}
    return WeightFiles(sorted(set(shard_of.values())), index, shard_of)


def _shards(index: Path) -> dict[str, str]:
    """Return the shard of every key of an index."""
    shard_of = read_json_object(index, _MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(shard_of, dict) or not shard_of:
        raise ValueError(f"weights {str(index)!r} are not an index of shards: no weight_map")
    for key, name in shard_of.items():
        if not isinstance(name, str) or not name or Path(name).name != name or name == "..":
            raise ValueError(
                f"weights {str(index)!r}: weight_map puts {key[:80]!r} into {str(name)[:80]!r}, "
                "which is no file of this folder"
            )
    return shard_of
