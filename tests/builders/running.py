"""A service on the memory broker: publish to it, read what it publishes, wait for it, and send it requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from tests.http_apps import http_app

from everloop_schemas.envelope import Event
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.service import Service

E = TypeVar("E", bound=Event)
T = TypeVar("T")


async def until(condition: Callable[[], T | None], within_s: float = 20.0) -> T:
    """The value of a condition once it is true; fails at the deadline."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not become true in time"
        await asyncio.sleep(0.01)
    return value


def http_client(service: Service, path: str = "", *, raises: bool = True, **options: Any) -> httpx.AsyncClient:
    """A client of the service's HTTP endpoint, without a network.

    An exception in the service is raised here too; with `raises=False` it is the answer 500, as for a user.
    """
    transport = httpx.ASGITransport(http_app(service), raise_app_exceptions=raises)
    return httpx.AsyncClient(transport=transport, base_url=f"http://localhost{path}", **options)


@dataclass
class RunningService:
    """A running service and its broker."""

    broker: MemoryBroker
    service: Service

    async def publish(self, *events: Event) -> None:
        """Publish events, for the service to consume."""
        for event in events:
            await self.broker.append(event.topic.name, event.key(), event.encode())

    def published(self, kind: type[E]) -> list[E]:
        """All events of a kind, partition by partition."""
        return [e for e in self.broker.events(kind.topic) if isinstance(e, kind)]

    async def until(self, condition: Callable[[], T | None], within_s: float = 20.0) -> T:
        """The value of a condition once it is true; fails at the deadline."""
        return await until(condition, within_s)

    async def wait_for(self, kind: type[E], count: int, within_s: float = 20.0) -> list[E]:
        """The events of a kind once there are `count`; fails at the deadline."""
        await until(lambda: len(self.published(kind)) >= count, within_s)
        return self.published(kind)


@asynccontextmanager
async def run_consumers(service: Service) -> AsyncIterator[None]:
    """Run the resources and consumers of a service, without its endpoints and background jobs."""
    async with AsyncExitStack() as stack:
        for resource in service.resources:
            await stack.enter_async_context(resource)
        for consumer in service.consumers:
            stack.push_async_callback(consumer.stop)
            await consumer.start()
        yield


@asynccontextmanager
async def run_until_exit(service: Service, within_s: float = 50.0) -> AsyncIterator[None]:
    """Run a service, from when it is ready to the end of the block; raises the failure that ends it."""
    stop = asyncio.Event()
    running = asyncio.create_task(service.run(stop))
    try:
        await _ready(service, running, within_s)
        yield
    finally:
        stop.set()
        await running


async def _ready(service: Service, running: asyncio.Task[None], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while service.not_ready() is not None and not running.done():
        assert time.monotonic() < deadline, service.not_ready()
        await asyncio.sleep(0.01)
    if running.done():
        running.result()
