"""The process that forks, the tiny experiment, and its uninterrupted runs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos_runs import Run
from forked_fit import Nursery, nursery
from tiny_experiment import tiny_experiment

__all__ = ["nursery", "tiny_experiment"]


@pytest.fixture(scope="session")
def whole(
    nursery: Nursery, tiny_experiment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Run]:
    """``whole(world_size, *overrides)``: the run that nothing happens to; each is run once."""
    runs: dict[tuple[object, ...], Run] = {}

    def run_of(world_size: int, *overrides: str) -> Run:
        key = world_size, overrides
        if key not in runs:
            folder = tmp_path_factory.mktemp("whole")
            runs[key] = Run(nursery, tiny_experiment, folder / "run", overrides)
            runs[key].finish(world_size)
        return runs[key]

    return run_of


@pytest.fixture
def harmed(nursery: Nursery, tiny_experiment: Path, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """``harmed(*overrides)``: a run to be harmed; whatever is done to it leaves no process."""
    runs: list[Run] = []

    def run_of(*overrides: str) -> Run:
        runs.append(Run(nursery, tiny_experiment, tmp_path / f"run{len(runs)}", overrides))
        return runs[-1]

    yield run_of
    assert not any(run.left_over() for run in runs)
