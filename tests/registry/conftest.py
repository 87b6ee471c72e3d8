"""Fixtures of the registry's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.registry.mlflow_api import ENVIRONMENT
from tests.registry.registry_harness import HandlerHarness, handler_harness


@pytest.fixture
async def harness(tmp_path: Path, databases: object) -> AsyncIterator[HandlerHarness]:
    """The handlers over a fresh database, with the market loop applied."""
    async with handler_harness(tmp_path) as made:
        yield made


@pytest.fixture
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """For MLflow's client an error is an error at once, and it reports nothing to anybody."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
