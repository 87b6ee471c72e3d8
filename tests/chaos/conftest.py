"""An installation for each test that breaks it, and a log for the tests of the checker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.correct_log import correct_log
from tests.chaos.installation import Installation, running
from tests.chaos.journal import Journal
from tests.chaos.topics import Log


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """An installation of the test's own, with the loops applied."""
    with running(tmp_path / "installation") as installation:
        yield installation


@pytest.fixture
def run() -> tuple[Log, Journal]:
    """A log and a journal without findings."""
    return correct_log()
