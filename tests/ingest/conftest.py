"""Ingest on the memory broker, with one loop applied."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders.loops import loop_spec, loop_state
from tests.builders.running import http_client, run_consumers

from everloop_ingest.app import build
from everloop_ingest.settings import IngestSettings
from everloop_schemas.registry import LoopState
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import EngineFactory

MARKET: dict[str, Any] = {
    "schema": {"price": {"type": "number"}, "demand": {"type": "number", "missing": None}},
}
StartIngest = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def _state(revision: int, spec: dict[str, Any]) -> LoopState:
    return loop_state(loop_spec(**spec), revision=revision, sequence=revision)


@pytest.fixture
def state() -> Callable[..., LoopState]:
    """The state of the loop `market` as registry publishes it; keywords change its spec."""
    return lambda revision=1, **spec: _state(revision, MARKET | spec)


@pytest.fixture
def broker() -> MemoryBroker:
    """The broker."""
    return MemoryBroker()


@pytest.fixture
def start_ingest(broker: MemoryBroker, tmp_path: Path) -> StartIngest:
    """Start ingest: keywords are settings, or `spec` of the loop `market`, or another `connect`."""

    @asynccontextmanager
    async def started(
        spec: dict[str, Any] | None = None, connect: EngineFactory | None = None, **settings: Any
    ) -> AsyncIterator[httpx.AsyncClient]:
        applied = _state(3, MARKET | (spec or {}))
        await broker.append(applied.topic.name, applied.key(), applied.encode())
        service = build(IngestSettings(data=tmp_path, **settings), connect or broker.engine)
        async with run_consumers(service), http_client(service, "/v1/loops/market", raises=False) as client:
            yield client

    return started


@pytest.fixture
async def client(start_ingest: StartIngest) -> AsyncIterator[httpx.AsyncClient]:
    """A client of ingest with default settings."""
    async with start_ingest() as client:
        yield client
