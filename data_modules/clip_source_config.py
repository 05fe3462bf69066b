"""Configuration of where clips come from."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class ClipSourceConfig:
    """One source of clips."""

    kind: str
    """Which source."""
    root: str
    """Its folder."""
