"""Entry points as an installer leaves them beside a package."""

import sys
from pathlib import Path

import pytest


def install_points(
    folder: Path, monkeypatch: pytest.MonkeyPatch, groups: dict[str, dict[str, str]]
) -> None:
    """Make entry points visible, by their groups, and forget modules afterwards."""
    info = folder / "installed-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1.0\n")
    lines = [
        line
        for group, points in groups.items()
        for line in (f"[{group}]\n", *(f"{name} = {value}\n" for name, value in points.items()))
    ]
    (info / "entry_points.txt").write_text("".join(lines))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "modules", {**sys.modules})
