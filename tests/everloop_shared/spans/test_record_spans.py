"""Records, requests and calls within their traces: who is whose parent, what begins a trace, and what is told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter
from tests.builders import events
from tests.http_apps import http_app

from everloop_schemas.envelope import Event
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_shared.errors import InputRejected
from everloop_shared.http import HttpEndpoint
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.processing.record_spans import (
    READ_AGAIN_AFTER_S,
    RecordSpans,
    begin_traces,
    handle_record,
)
from everloop_shared.messaging.routes import Position, Record, Route
from everloop_shared.service import Service
from everloop_shared.settings import Settings
from everloop_shared.spans.recorder import Span, SpanRecorder
from everloop_shared.spans.recorders import RECORDERS
from everloop_shared.tracing import current_traceparent, is_sampled, log_fields, span_attributes

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-ffffffffffffffffffffffffffffffff-00f067aa0ba902b7-01"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
AT = Position("ingest.event_received.v1", 2, 7, 1_000_000)


@pytest.fixture
def ended() -> Iterator[list[Span]]:
    """The spans that services named `feature` and `ingest` record, of a tenth of the traces that begin in them."""
    found: list[Span] = []
    for service in ("feature", "ingest"):
        RECORDERS[service] = SpanRecorder(0.0, 100.0, found.append)
    yield found
    RECORDERS.clear()


def record_of(event: Event, at: Position = AT) -> Record:
    """The event on the log."""
    return Record(at, event.key(), event.encode())


def received(traceparent: str | None) -> EventReceived:
    """An observation of a person."""
    return events.observation("o-1", {"x": 1.0}, "anna", loop="l", revision=0, time=NOW, traceparent=traceparent)


def computed(traceparent: str | None) -> Event:
    """What feature makes of it."""
    return events.features_computed("o-1", {}, "anna", loop="l", revision=0, time=NOW, traceparent=traceparent)


async def handled(
    event: Event, *returned: Event, is_broadcast: bool = False, now: float = 1_000.0
) -> tuple[list[Event], Event]:
    """What comes of a record whose handler returns these events, and the event that the handler got."""
    got: list[Event] = []

    async def handle(event: Event, at: Position) -> list[Event]:
        got.append(event)
        return list(returned)

    spans = RecordSpans(RECORDERS["feature"], "feature", is_broadcast, clock=lambda: now)
    return await spans.handle(handle, event, record_of(event)), got[0]


async def test_the_record_of_a_sampled_request_is_handled_within_a_span_that_is_the_parent_of_what_follows(
    ended: list[Span],
) -> None:
    out, got = await handled(received(PARENT), computed(None))

    [span] = ended
    assert (span.name, span.kind, span.trace_id, span.parent_id) == (
        "process ingest.event_received.v1",
        "consumer",
        PARENT[3:35],
        PARENT[36:52],
    )
    assert [e.traceparent for e in out] == [span.traceparent]
    assert got.traceparent == span.traceparent, "what a handler passes on by itself is within the span too"
    assert got.encode() == received(PARENT).encode(), "a dead letter has the bytes that were read"
    assert span.attributes == {
        "messaging.system": "kafka",
        "messaging.destination.name": "ingest.event_received.v1",
        "messaging.destination.partition.id": "2",
        "messaging.kafka.offset": 7,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": "feature",
        "cloudevents.event_type": "ingest.event_received.v1",
        "everloop.loop": "l",
    }
    assert "anna" not in repr(span.attributes)


@pytest.mark.parametrize("sent", [None, "nonsense" * 10, PARENT[:-2] + "00"])
async def test_other_records_have_no_span_and_keep_their_trace(ended: list[Span], sent: str | None) -> None:
    out, got = await handled(received(sent), computed(None))

    assert (ended, out[0].traceparent, got.traceparent) == ([], sent, sent)


@pytest.mark.parametrize("sent", [None, PARENT, PARENT[:-2] + "00"])
async def test_a_signed_event_stays_as_it_was_signed(ended: list[Span], sent: str | None) -> None:
    signed = events.model_trained("logistic-0-v1", 7).copy_with(traceparent=None, signature="key.signature")

    async def handle(event: Event, at: Position) -> list[Event]:
        return [signed]

    out, _ = await handled(received(sent), signed)
    without_spans = await handle_record(handle, received(sent), record_of(received(sent)))

    assert [*out, *without_spans] == [signed, signed]


async def test_an_event_that_continues_another_trace_has_a_span_there_with_a_link_to_its_cause(
    ended: list[Span],
) -> None:
    out, _ = await handled(received(PARENT), computed(OTHER))

    created, process = ended
    assert (created.name, created.trace_id, created.parent_id) == (
        "create feature.features_computed.v1",
        OTHER[3:35],
        OTHER[36:52],
    )
    assert created.links == (process.traceparent,)
    assert out[0].traceparent == created.traceparent


async def test_a_drift_is_recorded_from_its_beginning_under_the_id_that_logs_know(ended: list[Span]) -> None:
    RECORDERS["feature"] = SpanRecorder(0.001, 1.0, ended.append)
    unrecorded = PARENT[:-2] + "00"
    drift = events.drift_detected(10, 5, loop="l", traceparent=unrecorded)

    [out], _ = await handled(received(unrecorded), drift)

    [created] = ended
    assert (created.trace_id, created.parent_id, out.traceparent) == (PARENT[3:35], None, created.traceparent)


@pytest.mark.parametrize(("flag", "recorded"), [("00", ["create monitoring.drift_detected.v1"]), ("01", [])])
def test_a_drift_that_follows_from_a_batch_is_recorded_likewise_unless_its_cause_is(
    ended: list[Span], flag: str, recorded: list[str]
) -> None:
    RECORDERS["monitoring"] = SpanRecorder(0.001, 1.0, ended.append)
    others = [computed(PARENT[:-2] + "00"), computed(None)]
    drift = events.drift_detected(10, 5, loop="l", traceparent=PARENT[:-2] + flag)

    *rest, out = begin_traces("monitoring", [*others, drift])

    assert rest == others
    assert [(span.name, span.trace_id) for span in ended] == [(name, PARENT[3:35]) for name in recorded]
    assert out.traceparent == (ended[0].traceparent if recorded else PARENT)
    assert begin_traces("nobody", [drift]) == [drift]


async def test_a_broadcast_that_is_read_again_at_a_start_is_no_part_of_its_trace_once_more(ended: list[Span]) -> None:
    then = AT.timestamp / 1_000

    await handled(received(PARENT), is_broadcast=True, now=then + READ_AGAIN_AFTER_S + 1)
    assert not ended
    await handled(received(PARENT), is_broadcast=True, now=then + READ_AGAIN_AFTER_S - 1)

    assert len(ended) == 1


async def test_a_failure_is_the_spans_error_without_its_text(ended: list[Span]) -> None:
    async def handle(event: Event, at: Position) -> list[Event]:
        raise InputRejected("anna is not known")

    with pytest.raises(InputRejected):
        await RecordSpans(RECORDERS["feature"], "feature", False).handle(
            handle, received(PARENT), record_of(received(PARENT))
        )

    assert (ended[0].error, "anna" in repr(ended[0].attributes)) == ("InputRejected", False)


async def test_a_service_on_a_bus_and_its_logs_are_within_the_trace(ended: list[Span]) -> None:
    fields: list[dict[str, str]] = []

    async def handle(event: EventReceived, at: Position) -> list[Event]:
        fields.append(log_fields())
        return [computed(None)]

    broker = MemoryBroker(1)
    consumer = broker.engine("feature").consumer([Route(EventReceived.topic, handle)])
    await consumer.start()
    await broker.append(EventReceived.topic.name, received(PARENT).key(), received(PARENT).encode())

    assert await consumer.caught_up(20)
    await consumer.stop()
    [out] = broker.events(FeaturesComputed.topic)
    assert (out.traceparent, fields[0]["trace"]) == (ended[0].traceparent, PARENT[3:35])


router = APIRouter()


@router.post("/v1/loops/{loop}/events")
async def post_events(loop: str) -> dict[str, str | None]:
    """As ingest's endpoint, with what a handler finds."""
    if loop == "fails":
        raise ValueError("anna")
    described = span_attributes()
    if described is not None:
        described["everloop.events"] = 1
    return {"trace": current_traceparent()}


async def ask(path: str, **headers: str) -> httpx.Response:
    """The answer of a service to a request within this process."""
    app = http_app(Service("ingest", Settings(), [HttpEndpoint("ingest", Settings(), router)]))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.post(path, json={}, headers=headers)


async def test_a_request_is_a_span_with_its_route_and_never_its_address(ended: list[Span]) -> None:
    answer = await ask("/v1/loops/market/events?entity=anna", traceparent=PARENT)

    [span] = ended
    assert answer.json()["trace"] == span.traceparent
    assert (span.name, span.kind, span.parent_id, span.error) == (
        "POST /v1/loops/{loop}/events",
        "server",
        PARENT[36:52],
        None,
    )
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/loops/{loop}/events",
        "http.response.status_code": 200,
        "everloop.loop": "market",
        "everloop.events": 1,
    }


async def test_a_crash_is_an_error_of_the_span_and_a_refusal_is_none(ended: list[Span]) -> None:
    await ask("/v1/loops/fails/events", traceparent=PARENT)
    await ask("/v1/nowhere/anna", traceparent=PARENT)
    await ask("/v1/loops/market/events", traceparent=PARENT, **{"content-type": "text/plain"})

    failed, unknown, refused = ended
    assert (failed.error, failed.attributes["http.response.status_code"]) == ("500", 500)
    assert (unknown.name, unknown.error, unknown.attributes["http.response.status_code"]) == ("POST", None, 404)
    assert (refused.error, refused.attributes["http.response.status_code"]) == (None, 415)
    assert "anna" not in repr([span.attributes for span in ended])


async def test_a_request_that_is_not_sampled_and_probes_have_no_span(ended: list[Span]) -> None:
    answer = await ask("/v1/loops/market/events", traceparent=PARENT[:-2] + "00")
    new = await ask("/v1/loops/market/events")

    assert answer.json()["trace"] == PARENT[:-2] + "00"
    assert not is_sampled(new.json()["trace"])
    assert not ended


async def test_nobody_has_refused_requests_recorded_by_a_flag(ended: list[Span], tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    settings = Settings(auth="on", auth_keys=keys)
    app = http_app(Service("ingest", settings, [HttpEndpoint("ingest", settings, router)]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.post("/v1/loops/market/events", json={}, headers={"traceparent": PARENT})

    assert (answer.status_code, ended) == (401, [])
