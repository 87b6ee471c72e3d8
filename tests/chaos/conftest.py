"""A house of one's own for each test that breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.house import House
from tests.chaos.loops import SPECS


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house of our own, with the loops applied."""
    house = House(tmp_path / "house")
    house.folder.mkdir()
    done = house.up()
    assert done.returncode == 0, done.stderr
    try:
        for spec in SPECS.values():
            house.apply(spec)
        yield house
    finally:
        house.down()
