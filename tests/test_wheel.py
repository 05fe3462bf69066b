"""The wheel, installed by itself: it asks its own reasoner about its own sample."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with nothing but what the wheel of this tree holds, made with a tiny reasoner.

    A reasoner and samples that ship are replaced, so that the test is the same before and after.
    """
    from tiny_shipped import write_tiny_reasoner

    tree, target = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("target")
    for name in ("vidreason", "pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        source = CHECKOUT / name
        ignored = shutil.ignore_patterns("__pycache__", "reasoner", "samples")
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tree / name, **({"ignore": ignored} if source.is_dir() else {}))
    microworld = tree / "vidreason" / "microworld"
    write_tiny_reasoner(microworld / "reasoner")
    (microworld / "samples").mkdir()
    sample = CHECKOUT / "tests" / "assets" / "cases" / "pixels_square.mp4"
    shutil.copy(sample, microworld / "samples" / "hit.mp4")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tree / "dist")], tree)
    (wheel,) = (tree / "dist").glob("*.whl")
    shutil.unpack_archive(wheel, target, "zip")
    return target


def run(command, folder, **environment):
    variables = {**os.environ, **environment}
    result = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a build and two new processes that import torch, on a loaded machine
def test_the_wheel_by_itself_answers_about_its_sample(installed, tmp_path):
    names = {path.name for path in installed.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"vidreason"}
    start = "import sys; from vidreason.cli import main; sys.exit(main())"
    environment = {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", start]
    path = run([*command, "sample", "hit"], tmp_path, **environment).strip()
    assert path == str(installed / "vidreason" / "microworld" / "samples" / "hit.mp4")
    assert run([*command, "ask", path, "--predict"], tmp_path, **environment)
