"""One real installation for all the journeys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.journeys.installation import Installation


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation that runs; ended with everything it started."""
    installation = Installation(tmp_path_factory.mktemp("installation"))
    installation.up()
    try:
        yield installation
    finally:
        installation.down()
