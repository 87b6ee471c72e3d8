"""A service has a list of endpoints: all start before its other parts, and drain before them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.engines.buses import until

from everloop_shared.endpoint import Health
from everloop_shared.errors import Misconfigured
from everloop_shared.service import Service
from everloop_shared.settings import Settings


class RecordingEndpoint:
    """An endpoint that records its steps; it may be slow to get ready, fail, or have no address."""

    def __init__(self, name: str, steps: list[str], *, address_in_use: bool = False) -> None:
        self.name, self.port = name, 0
        self.health: Health | None = None
        self.ready = asyncio.Event()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._steps, self._address_in_use = steps, address_in_use

    async def start(self, health: Health) -> None:
        """Part of Endpoint."""
        if self._address_in_use:
            raise Misconfigured(f"{self.name}: the address is in use")
        self.health = health
        self._steps.append(f"{self.name} starts")

    def not_ready(self) -> str | None:
        """Part of Endpoint."""
        return None if self.ready.is_set() else f"{self.name} is not ready"

    async def ended(self) -> None:
        """Part of Endpoint."""
        await asyncio.shield(self.failure)

    async def drain(self) -> None:
        """Part of Endpoint."""
        step = f"{self.name} drains"
        if step not in self._steps:
            self._steps.append(step)


@asynccontextmanager
async def resource(steps: list[str]) -> AsyncIterator[None]:
    """A part that starts after the endpoints and ends after them."""
    steps.append("resource starts")
    yield
    steps.append("resource ends")


async def test_all_endpoints_start_before_the_other_parts_and_drain_before_them() -> None:
    steps: list[str] = []
    http, grpc = RecordingEndpoint("http", steps), RecordingEndpoint("grpc", steps)
    service, stop = Service("ingest", Settings(), [http, grpc], resources=[resource(steps)]), asyncio.Event()

    running = asyncio.create_task(service.run(stop))
    await until(lambda: "resource starts" in steps)
    stop.set()
    await running

    assert steps[:3] == ["http starts", "grpc starts", "resource starts"]
    assert set(steps[3:5]) == {"http drains", "grpc drains"}
    assert steps[5:] == ["resource ends"]
    assert http.health is grpc.health is service


class WaitingConsumer:
    """A consumer that waits for a broker that never comes."""

    async def start(self) -> None:
        """Part of Consumer."""
        await asyncio.get_running_loop().create_future()

    async def stop(self) -> None:
        """Part of Consumer."""

    async def failed(self) -> BaseException:
        """Part of Consumer."""
        raise AssertionError("it has not started")

    def ready(self) -> str | None:
        """Part of Consumer."""
        return "it waits"

    def live(self) -> str | None:
        """Part of Consumer."""
        return None


async def test_a_stop_while_a_consumer_waits_for_the_broker_drains_the_endpoints_first_too() -> None:
    steps: list[str] = []
    endpoint = RecordingEndpoint("http", steps)
    service = Service("serving", Settings(), [endpoint], [WaitingConsumer()], [resource(steps)])
    stop = asyncio.Event()

    running = asyncio.create_task(service.run(stop))
    await until(lambda: "resource starts" in steps)
    stop.set()
    await running

    assert steps == ["http starts", "resource starts", "http drains", "resource ends"]


async def test_a_service_is_ready_when_every_endpoint_is() -> None:
    http, grpc = RecordingEndpoint("http", []), RecordingEndpoint("grpc", [])
    service, stop = Service("ingest", Settings(), [http, grpc]), asyncio.Event()
    running = asyncio.create_task(service.run(stop))
    await until(lambda: service.not_ready() == "http is not ready")

    http.ready.set()
    first = service.not_ready()
    grpc.ready.set()

    assert (first, service.not_ready()) == ("grpc is not ready", None)
    stop.set()
    await running


async def test_an_endpoint_that_fails_ends_the_service_with_its_error() -> None:
    steps: list[str] = []
    http, grpc = RecordingEndpoint("http", steps), RecordingEndpoint("grpc", steps)
    service = Service("ingest", Settings(), [http, grpc])
    running = asyncio.create_task(service.run(asyncio.Event()))
    await until(lambda: service.not_ready() != "starting")

    grpc.failure.set_exception(OSError("the socket broke"))

    with pytest.raises(OSError, match="the socket broke"):
        await running
    assert {"http drains", "grpc drains"} <= set(steps)


async def test_an_address_in_use_ends_the_start_and_the_endpoints_before_it_drain() -> None:
    steps: list[str] = []
    http, grpc = RecordingEndpoint("http", steps), RecordingEndpoint("grpc", steps, address_in_use=True)

    with pytest.raises(Misconfigured, match="grpc"):
        await Service("ingest", Settings(), [http, grpc], resources=[resource(steps)]).run(asyncio.Event())

    assert steps[0] == "http starts"
    assert "http drains" in steps
    assert "resource starts" not in steps
