"""One real house for all the journeys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.journeys.house import House


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house that runs; ended with everything it started."""
    house = House(tmp_path_factory.mktemp("house"))
    house.up()
    try:
        yield house
    finally:
        house.down()
