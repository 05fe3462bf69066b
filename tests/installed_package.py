"""Entry points as an installer leaves them beside a package."""

import sys
from pathlib import Path

import pytest


def install_points(
    folder: Path, monkeypatch: pytest.MonkeyPatch, group: str, points: dict[str, str]
) -> None:
    """Make entry points of a group visible, and forget modules afterwards."""
    info = folder / "installed-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1.0\n")
    lines = [f"{name} = {value}\n" for name, value in points.items()]
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(lines))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "modules", {**sys.modules})
