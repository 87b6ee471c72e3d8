"""One real installation for all the journeys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.journeys.installation import Installation, installed


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The installation."""
    with installed(tmp_path_factory.mktemp("installation")) as started:
        yield started
