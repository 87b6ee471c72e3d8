"""Fixtures of the registry's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.registry.registry_harness import HandlerHarness, handler_harness


@pytest.fixture
async def harness(tmp_path: Path, databases: object) -> AsyncIterator[HandlerHarness]:
    """The handlers over a fresh database, with the market loop applied."""
    async with handler_harness(tmp_path) as made:
        yield made
