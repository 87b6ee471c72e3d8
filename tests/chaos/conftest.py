"""A house of one's own for each test that breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.house import House, standing


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house of our own, with the loops applied."""
    with standing(tmp_path / "house") as house:
        yield house
