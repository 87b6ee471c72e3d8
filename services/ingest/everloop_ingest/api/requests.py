"""Takes one request: reads its body, has the handlers check it, and answers once the broker has its events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from fastapi import Request, Response

from everloop_ingest.api.responses import response_of
from everloop_ingest.api.schemas import SourceRecord
from everloop_ingest.domain.documents import CONTENT_TYPES, Entry, RequestLimits, read_entries
from everloop_ingest.domain.in_flight import InFlightLimit
from everloop_ingest.handlers import CheckedEntries, EndpointName, Handlers
from everloop_ingest.metrics import ACK_SECONDS, IN_HAND_BYTES, ITEMS, REQUESTS, UNACKNOWLEDGED
from everloop_ingest.settings import IngestSettings
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_shared import metrics
from everloop_shared.access.identity import current_identity
from everloop_shared.access.limits import take_rows
from everloop_shared.cloudevents import BATCH, STRUCTURED
from everloop_shared.commands import Actor, CommandEdge, publishing
from everloop_shared.errors import ServiceError, Unavailable
from everloop_shared.http import UnsupportedMediaType
from everloop_shared.http.cloudevents import binary_attributes, content_type
from everloop_shared.http.json_body import command_body
from everloop_shared.messaging.routes import Engine
from everloop_shared.strict_json import NDJSON, is_json
from everloop_shared.tracing import current_traceparent

ENTRIES_PER_SLICE = 200
"""A large request is checked in slices of this many entries, so that other requests are handled in between."""
MEMORY_FACTOR = 8
"""Bytes of memory per byte of a body, at most: the body itself, its entries as objects, and the events."""
MAX_SOURCE_RECORD_BYTES = 8_000_000


class IngestApi:
    """Takes the requests of the three endpoints of a loop, which differ only in what their entries mean."""

    def __init__(self, handlers: Handlers, engine: Engine, settings: IngestSettings) -> None:
        self._handlers, self._engine = handlers, engine
        self._commands = CommandEdge(publishing(self._publish))
        self._limits = RequestLimits(settings.max_events_per_request, settings.max_event_bytes)
        self._unacknowledged = InFlightLimit(settings.max_unacked_events, "events without an acknowledgement")
        self._memory = InFlightLimit(settings.max_in_hand_bytes, "bytes of requests")
        IN_HAND_BYTES.set_function(lambda: self._memory.in_flight)
        UNACKNOWLEDGED.set_function(lambda: self._unacknowledged.in_flight)

    async def ingest(self, request: Request, loop: str, endpoint: EndpointName) -> Response:
        """Answer one request; raises a ServiceError for problem details."""
        try:
            response = await self._ingest(request, loop, endpoint)
        except ServiceError as e:
            REQUESTS.labels(endpoint, e.http_status).inc()
            raise
        REQUESTS.labels(endpoint, response.status_code).inc()
        return response

    async def take_source_record(self, request: Request, loop: str, source: str) -> list[Event]:
        """Publish what a record of a source says; raises a ServiceError for problem details."""
        command = await self._commands.accept(request.headers)
        self._check_ready()
        self._handlers.loops.require(loop)
        body = await command_body(SourceRecord, request, MAX_SOURCE_RECORD_BYTES)
        for action in self._handlers.source_actions(loop, source):
            current_identity().require(action, loop)

        async def handle(actor: Actor) -> Sequence[Event]:
            return await self._handlers.read_source_record(loop, source, body.as_record())

        with self._memory.hold(MEMORY_FACTOR * len(body.value)):
            return list(await command.run(handle))

    def revision(self, loop: str) -> int:
        """The revision of the spec that entries are checked against; raises LoopNotFound or Unavailable."""
        self._check_ready()
        return self._handlers.loops.require(loop).revision

    async def _ingest(self, request: Request, loop: str, endpoint: EndpointName) -> Response:
        command = await self._commands.accept(request.headers)
        self._check_ready()
        self._handlers.loops.require(loop)
        kind, attributes = _read_headers(request)
        body = await request.body()
        checked, letters = CheckedEntries(), list[DeadLetter]()

        async def handle(actor: Actor) -> Sequence[Event]:
            await self._check_in_slices(loop, endpoint, entries, checked, actor)
            await self._handlers.seal(loop, checked)
            letters.extend(self._handlers.write_letters(loop, checked))
            return [*checked.events, *letters]

        with self._memory.hold(MEMORY_FACTOR * len(body)):
            entries = self._read(loop, endpoint, kind, body, attributes)
            take_rows(len(entries))
            await command.run(handle)
        ITEMS.labels(loop, endpoint, "accepted").inc(len(checked.events))
        ITEMS.labels(loop, endpoint, "rejected").inc(len(checked.rejected))
        for letter in letters:
            metrics.DEAD_LETTERS.labels("ingest", letter.data.topic, letter.data.error).inc()
        return response_of(checked, single=len(entries) == 1)

    def _read(
        self, loop: str, endpoint: EndpointName, kind: str, body: bytes, attributes: Mapping[str, str]
    ) -> list[Entry]:
        found = None
        if endpoint == "events" and not attributes and kind not in (STRUCTURED, BATCH):
            found = self._handlers.decode_observations(loop, kind, body, self._limits)
        return read_entries(kind, body, self._limits, attributes) if found is None else found

    def _check_ready(self) -> None:
        # Until the engine is ready, some loops are not known yet, and "there is no such loop" could be wrong.
        if reason := self._engine.ready():
            raise Unavailable(f"ingest cannot take requests now: {reason}")

    async def _check_in_slices(
        self,
        loop: str,
        endpoint: EndpointName,
        entries: Sequence[Entry],
        checked: CheckedEntries,
        actor: Actor,
    ) -> None:
        trace = current_traceparent()
        for start in range(0, len(entries), ENTRIES_PER_SLICE):
            checked += self._handlers.check_entries(
                loop, endpoint, entries[start : start + ENTRIES_PER_SLICE], trace, start, actor
            )
            await asyncio.sleep(0)

    async def _publish(self, events: Sequence[Event]) -> None:
        started = time.perf_counter()
        with self._unacknowledged.hold(len(events)):
            await self._engine.publish(events)
        ACK_SECONDS.observe(time.perf_counter() - started)


def _read_headers(request: Request) -> tuple[str, dict[str, str]]:
    """The content type without parameters, and the attributes of a CloudEvent in binary mode."""
    kind, attributes = content_type(request), binary_attributes(request)
    if not attributes and kind not in NDJSON and not is_json(kind):
        raise UnsupportedMediaType(f"{kind[:80]} is not supported; send one of {', '.join(CONTENT_TYPES)}")
    return kind, attributes
