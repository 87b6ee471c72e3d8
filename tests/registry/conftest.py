"""Fixtures of the registry's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.registry.registry_room import Desk, desk


@pytest.fixture
async def at_desk(tmp_path: Path, databases: object) -> AsyncIterator[Desk]:
    """The handlers over a fresh database, with the market loop applied."""
    async with desk(tmp_path) as made:
        yield made
