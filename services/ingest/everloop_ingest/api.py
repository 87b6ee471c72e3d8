"""The HTTP door: reads a body, lets the handlers check it, and answers 202 once the broker has it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from everloop_ingest.answers import DOCS, answer
from everloop_ingest.domain.budget import Budget
from everloop_ingest.domain.documents import CONTENT_TYPES, NDJSON, Entry, Limits, read
from everloop_ingest.handlers import Door, Handlers, Received
from everloop_ingest.metrics import ACK_SECONDS, IN_HAND_BYTES, ITEMS, REQUESTS, UNACKNOWLEDGED
from everloop_ingest.settings import IngestSettings
from everloop_shared.errors import ServiceError, Unavailable
from everloop_shared.http import UnsupportedMediaType
from everloop_shared.messaging.routes import Engine
from everloop_shared.strict_json import is_json
from everloop_shared.tracing import current_traceparent

# A large request is checked in slices of this many entries, so that others get their turn in between.
SLICE = 200
AS_OBJECTS = 8
"""So many times its bytes a body takes in hand: itself, its entries as objects, and the events made of them."""


class Doorway:
    """The three doors of a loop, which differ only in what their entries mean."""

    def __init__(self, handlers: Handlers, engine: Engine, settings: IngestSettings) -> None:
        self._handlers, self._engine = handlers, engine
        self._limits = Limits(settings.max_events_per_request, settings.max_event_bytes)
        self._unacknowledged = Budget(settings.max_unacked_events, "events without the broker's ack")
        self._in_hand = Budget(settings.max_in_hand_bytes, "bytes")
        IN_HAND_BYTES.set_function(lambda: self._in_hand.used)
        UNACKNOWLEDGED.set_function(lambda: self._unacknowledged.used)

    async def take(self, request: Request, loop: str, door: Door) -> Response:
        """Answer one request; raises ServiceError for the problem details."""
        try:
            response = await self._take(request, loop, door)
        except ServiceError as e:
            REQUESTS.labels(door, e.http_status).inc()
            raise
        REQUESTS.labels(door, response.status_code).inc()
        return response

    def revision(self, loop: str) -> int:
        """The revision this door checks against; raises LoopNotFound, Unavailable before it has heard of the loops."""
        self._open()
        return self._handlers.loops.require(loop).revision

    async def _take(self, request: Request, loop: str, door: Door) -> Response:
        self._open()
        self._handlers.loops.require(loop)
        content_type = _content_type(request)
        body = await request.body()
        with self._in_hand.take(AS_OBJECTS * len(body)):
            entries = read(content_type, body, self._limits, request.headers)
            received = await self._checked(loop, door, entries, current_traceparent())
            await self._published(received)
        ITEMS.labels(loop, door, "accepted").inc(len(received.events))
        ITEMS.labels(loop, door, "rejected").inc(len(received.rejected))
        return answer(received, alone=len(entries) == 1)

    def _open(self) -> None:
        # Until the engine is ready, the loops are not all known, and "unknown loop" could be wrong.
        if reason := self._engine.ready():
            raise Unavailable(f"ingest cannot take anything now: {reason}")

    async def _checked(self, loop: str, door: Door, entries: Sequence[Entry], trace: str | None) -> Received:
        whole = Received()
        for start in range(0, len(entries), SLICE):
            part = self._handlers.receive(loop, door, entries[start : start + SLICE], trace, start)
            whole.events += part.events
            whole.ids += part.ids
            whole.rejected += part.rejected
            await asyncio.sleep(0)
        return whole

    async def _published(self, received: Received) -> None:
        if not received.events:
            return
        started = time.perf_counter()
        with self._unacknowledged.take(len(received.events)):
            await self._engine.publish(received.events)
        ACK_SECONDS.observe(time.perf_counter() - started)


def _content_type(request: Request) -> str:
    name = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if name not in NDJSON and not is_json(name):
        raise UnsupportedMediaType(f"{name[:80]} is not read here; send one of {', '.join(CONTENT_TYPES)}")
    return name


def router(doorway: Doorway) -> APIRouter:
    """The routes of DESIGN section 9, and the loop's revision that `everloop apply` waits for."""
    routes = APIRouter(prefix="/v1/loops/{loop}", tags=["ingest"])

    def described(name: Door) -> dict[str, Any]:
        return {"responses": DOCS[name]["responses"], "openapi_extra": DOCS[name]["extra"], "status_code": 202}

    @routes.post("/events", summary="Send observations", **described("events"))
    async def events(loop: str, request: Request) -> Response:
        return await doorway.take(request, loop, "events")

    @routes.post("/labels", summary="Send the truth about predictions", **described("labels"))
    async def labels(loop: str, request: Request) -> Response:
        return await doorway.take(request, loop, "labels")

    @routes.post("/feedback", summary="Send what users say of predictions", **described("feedback"))
    async def feedback(loop: str, request: Request) -> Response:
        return await doorway.take(request, loop, "feedback")

    @routes.get("", summary="The revision of the loop's spec that this door checks against")
    async def loop_revision(loop: str) -> Response:
        return JSONResponse({"loop": loop, "revision": doorway.revision(loop)})

    return routes
