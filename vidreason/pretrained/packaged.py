"""The reasoner that comes with the package."""

import importlib.resources
from pathlib import Path

SHIPPED_REASONER = Path(str(importlib.resources.files("vidreason"))) / "microworld" / "reasoner"
"""Folder of the reasoner that comes with the package, if one does."""


def shipped_reasoner() -> Path:
    """Return the folder of the reasoner that comes with the package.

    Raises:
        ValueError: This installation carries none.
    """
    if not (SHIPPED_REASONER / "config.json").is_file():
        raise ValueError(
            "this installation carries no trained reasoner: name one, such as "
            "runs/demo/stage2/reasoner after `vidreason demo`"
        )
    return SHIPPED_REASONER
