"""Tables and ``metrics.json`` of kept predictions, held to those recorded before.

``tests/assets/golden/evaluation`` has predictions for the microworld's form of seven corpora, made
up from a seed: options scored, spans, short and free answers, by a system that is often right and
by a blind one. A change of the structure must not move a number; one that is meant to writes the
results anew, and says why: ``PYTHONPATH=. python -m tests.experiments.test_golden_evaluation``.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from experiments.evaluate import __main__ as program

GOLDEN = Path(__file__).parents[1] / "assets" / "golden" / "evaluation"
RESULTS = ("tables.md", "metrics.json")


def rescore(folder: Path) -> dict[str, str]:
    for path in GOLDEN.glob("predictions-*.jsonl"):
        shutil.copy(path, folder)
    assert program.main(["--from", str(folder)]) == 0
    return {name: (folder / name).read_text().replace(str(folder), "FOLDER") for name in RESULTS}


def numbers(value: Any, path: str = "") -> dict[str, Any]:
    """The leaves of what JSON holds, by their paths."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    result: dict[str, Any] = {}
    for key, item in items:
        below = f"{path}/{key}"
        result |= numbers(item, below) if isinstance(item, dict | list) else {below: item}
    return result


def test_kept_predictions_have_the_recorded_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = rescore(tmp_path)
    assert result["tables.md"] == (GOLDEN / "tables.md").read_text()
    expected = numbers(json.loads((GOLDEN / "metrics.json").read_text()))
    assert len(expected) > 100
    metrics = numbers(json.loads(result["metrics.json"]))
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, float):
            value = pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True)
        assert metrics[name] == value, name


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in rescore(Path(scratch)).items():
            (GOLDEN / name).write_text(text)
