"""The notebooks run as they are, with what an installed package has."""

import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.ipynb")))
def test_a_notebook_runs(name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # nothing is taken from the checkout
    cells = json.loads((EXAMPLES / name).read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    for number, source in enumerate(sources):
        exec(compile(source, f"{name}[{number}]", "exec"), names)
    printed = capsys.readouterr().out
    assert "Probability: " in printed
    assert "> what entered first" in printed
    assert all(not cell.get("outputs") for cell in cells)
