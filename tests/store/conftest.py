"""Stores of these tests look for what others add whenever asked, on a busy machine too."""

import pytest

from vidreason.store import feature_index


@pytest.fixture(autouse=True)
def _listing_is_never_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_index, "WAIT_PER_LISTING", 0.0)
