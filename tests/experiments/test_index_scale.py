"""The program that measures indices at scale, at two small scales: memory does not grow."""

from pathlib import Path

import pytest

from data_modules.example_files import CorpusIndex
from experiments.benchmark import index_scale
from experiments.benchmark.__main__ import main
from experiments.benchmark.index_scale import (
    build_from_batches,
    build_from_examples,
    go_through,
    measured,
)


def test_both_ways_of_making_rows_make_the_same_rows(tmp_path: Path) -> None:
    build_from_examples(tmp_path / "examples", 5000)
    build_from_batches(tmp_path / "batches", 5000)
    rows = (0, 1, 999, 1000, 4095, 4096, 4999)
    examples, batches = (CorpusIndex(tmp_path / name) for name in ("examples", "batches"))
    assert [examples[row] for row in rows] == [batches[row] for row in rows]
    assert (examples.lengths(slice(None)) == batches.lengths(slice(None))).all()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    megabytes = {}
    for num_rows in (50_000, 1_000_000):
        folder = tmp_path / str(num_rows)
        built = measured(build_from_batches, folder, num_rows)
        gone_through = measured(go_through, folder, num_rows)
        megabytes[num_rows] = (built["peak MB"] - built["before MB"], gone_through["own MB"])
        assert built["disk GB"] * 1e9 / num_rows < 260
    # 20 times the rows, which are 230 MB more: not 40 MB more of memory.
    for small, large in zip(*megabytes.values(), strict=True):
        assert large - small < 40, megabytes


def test_the_program_prints_each_part_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # In this process: new ones would only import PyTorch again.
    monkeypatch.setattr(
        index_scale, "measured", lambda part, folder, num_rows: part(folder, num_rows)[0]
    )
    arguments = ["3000", "--folder", str(tmp_path / "new"), "--output-dir", str(tmp_path / "out")]
    assert main(["index", *arguments]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["build", "open", "order"]
    assert "resume ms" in lines[2]
    assert list((tmp_path / "new").iterdir()) == []
    assert "resume ms" in (tmp_path / "out" / "index.md").read_text()


def test_fewer_rows_than_three_steps_take_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", "300", "--folder", str(tmp_path / "new")]) == 2
    assert "num_rows is 300; it must be at least 768" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
