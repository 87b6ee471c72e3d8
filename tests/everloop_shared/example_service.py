"""A service of one route over the memory engine, run as a real process by test_service_process.py."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response
from prometheus_client import Gauge

from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived, EventReceivedData
from everloop_shared.clock import system_clock
from everloop_shared.http import HttpEndpoint, read_body
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position, Publisher, Route
from everloop_shared.process import run
from everloop_shared.service import Service
from everloop_shared.settings import Settings

router = APIRouter()
INSIDE = Gauge("everloop_test_inside", "Requests in progress.")


@router.post("/echo")
async def echo(request: Request) -> Response:
    """The body, up to 100 bytes, after `wait` milliseconds."""
    with INSIDE.track_inprogress():
        body = await read_body(request, 100)
        await asyncio.sleep(float(request.query_params.get("wait", 0)) / 1000)
        return Response(body)


async def on_event_received(event: EventReceived, at: Position) -> list[Event]:
    """Raises."""
    raise OSError("the engine broke")


def failing_job(publisher: Publisher) -> Callable[[], Awaitable[None]]:
    """A background job that raises, or makes the engine fail, as the variable BREAK says."""

    async def job() -> None:
        if os.environ.get("BREAK") == "job":
            raise RuntimeError("the job broke")
        if os.environ.get("BREAK") == "engine":
            now = system_clock()
            data = EventReceivedData(entity="a", fields={}, received=now)
            await publisher.publish([EventReceived(id="1", loop="l", subject="a", time=now, data=data)])

    return job


def build() -> Service:
    """The composition root."""
    settings = Settings.load("ingest")
    engine = MemoryBroker().engine("ingest")
    consumer = engine.consumer([Route(EventReceived.topic, on_event_received)])
    return Service(
        "ingest", settings, [HttpEndpoint("ingest", settings, router)], [consumer], background=[failing_job(engine)]
    )


if __name__ == "__main__":
    run(build)
