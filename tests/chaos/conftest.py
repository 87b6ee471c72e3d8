"""An installation of one's own for each test that breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.installation import Installation, standing


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """An installation of our own, with the loops applied."""
    with standing(tmp_path / "installation") as installation:
        yield installation
