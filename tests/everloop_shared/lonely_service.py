"""A service of one route over the memory engine, run as a real process by test_service_process.py."""

from __future__ import annotations

import asyncio
import os

from fastapi import APIRouter, Request, Response

from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived
from everloop_shared.http import read_body
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position, Route
from everloop_shared.service import Service, run
from everloop_shared.settings import Settings

router = APIRouter()


@router.post("/echo")
async def echo(request: Request) -> Response:
    """What was sent, up to 100 bytes, after as many milliseconds as `wait` says."""
    body = await read_body(request, 100)
    await asyncio.sleep(float(request.query_params.get("wait", 0)) / 1000)
    return Response(body)


async def on_event_received(event: EventReceived, at: Position) -> list[Event]:
    """Nothing to do."""
    return []


async def fail() -> None:
    """A background job that breaks when told to."""
    if os.environ.get("BREAK") == "job":
        raise RuntimeError("the job broke")


def build() -> Service:
    """The composition root."""
    settings = Settings.load("ingest")
    engine = MemoryBroker().engine("ingest", [Route(EventReceived.topic, on_event_received)])
    return Service("ingest", settings, router, engines=[engine], background=[fail])


if __name__ == "__main__":
    run(build)
