"""The forms of a checkpoint: one file, a folder of torch's distributed format, or DeepSpeed's."""

import zipfile
from pathlib import Path

META_FILE = "meta.pt"
METADATA_FILE = ".metadata"
RECORD = "vidreason"
"""Key of what a checkpoint says of its run; see :mod:`vidreason.training.checkpoint_format`."""


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a checkpoint of torch's distributed format."""
    return (path / METADATA_FILE).is_file() and (path / META_FILE).is_file()


def is_deepspeed(path: Path) -> bool:
    """Whether ``path`` is a folder that DeepSpeed has written."""
    return (path / "latest").is_file()


def is_complete(path: Path) -> bool:
    """Whether there is a whole checkpoint of any form at ``path``."""
    if path.is_dir():
        return is_folder(path) or is_deepspeed(path)
    return path.is_file() and zipfile.is_zipfile(path)
