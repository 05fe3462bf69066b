"""Entry points as an installer leaves them beside a package."""

import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


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
    for point in (point for points in groups.values() for point in points.values()):
        # Absent now, it is taken away again after the test.
        names = point.partition(":")[0].split(".")
        for count in range(len(names)):
            monkeypatch.delitem(sys.modules, ".".join(names[: count + 1]), raising=False)


def install_examples(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...] = ("my_corpus", "my_parts", "my_baseline"),
) -> dict[str, dict[str, str]]:
    """Make packages of ``examples`` importable with their entry points, which are returned."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        project = tomllib.loads((EXAMPLES / name / "pyproject.toml").read_text())["project"]
        groups |= project["entry-points"]
        monkeypatch.syspath_prepend(str(EXAMPLES / name))
    install_points(folder, monkeypatch, groups)
    return groups
