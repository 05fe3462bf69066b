"""Rollouts that the tests of the microworld share: drawing them takes most of their time."""

import pytest

from vidreason.microworld.scenes import draw_rollouts
from vidreason.microworld.simulation import Rollout


@pytest.fixture(scope="session")
def rollouts() -> list[Rollout]:
    """The first 120 of ``train``: twenty of each kind of what happens next."""
    return [rollout for _, rollout in draw_rollouts("train", 120)]
