"""An open ingest door over the memory engine, with a loop behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http_apps import http_app

from everloop_ingest.app import build
from everloop_ingest.settings import IngestSettings
from everloop_schemas.envelope import at
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LiveVersion, LoopState, LoopStateData
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import EngineFactory

MARKET: dict[str, Any] = {
    "loop": "market",
    "task": "binary",
    "schema": {"price": {"type": "number"}, "demand": {"type": "number", "missing": None}},
}
OpenDoor = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def _state(revision: int, spec: dict[str, Any]) -> LoopState:
    loop = LoopSpec.model_validate(spec)
    data = LoopStateData(spec=loop, champion=LiveVersion(version="0", since=at(0)), sequence=revision)
    return LoopState(id=f"s{revision}", time=at(0), subject="0", loop=loop.loop, revision=revision, data=data)


@pytest.fixture
def state() -> Callable[..., LoopState]:
    """What registry says of the loop `market`; keywords change its spec."""
    return lambda revision=1, **spec: _state(revision, MARKET | spec)


@pytest.fixture
def broker() -> MemoryBroker:
    """The bus."""
    return MemoryBroker()


@pytest.fixture
def open_door(broker: MemoryBroker, tmp_path: Path) -> OpenDoor:
    """Open a door: keywords are settings, or `spec` of the loop `market`, or another `connect`."""

    @asynccontextmanager
    async def opened(
        spec: dict[str, Any] | None = None, connect: EngineFactory | None = None, **settings: Any
    ) -> AsyncIterator[httpx.AsyncClient]:
        known = _state(3, MARKET | (spec or {}))
        await broker.append(known.topic.name, known.key(), known.encode())
        service = build(IngestSettings(data=tmp_path, **settings), connect or broker.engine)
        transport = httpx.ASGITransport(http_app(service), raise_app_exceptions=False)
        await service.consumers[0].start()
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost/v1/loops/market") as client:
                yield client
        finally:
            await service.consumers[0].stop()

    return opened


@pytest.fixture
async def door(open_door: OpenDoor) -> AsyncIterator[httpx.AsyncClient]:
    """The door with its defaults."""
    async with open_door() as client:
        yield client
