"""The notebooks run as they are, with what an installed package has."""

import pytest
from page_blocks import CHECKOUT, cells_of

EXAMPLES = CHECKOUT / "examples"


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.ipynb")))
def test_a_notebook_runs(name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # nothing is taken from the checkout
    names: dict[str, object] = {}
    for number, source in enumerate(cells_of(EXAMPLES / name)):
        exec(compile(source, f"{name}[{number}]", "exec"), names)
    printed = capsys.readouterr().out
    assert "Probability: " in printed
    assert "> what entered first" in printed
