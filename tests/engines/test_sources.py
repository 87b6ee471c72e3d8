"""Topics that are not Everloop's: their own decoder, no prefix, dead letters for what it refuses, on every engine."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from tests.engines.buses import BUSES, NOW, SERVICE, Bus, received, running, send_all, until

from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Event, derived_id
from everloop_schemas.ingest import EventReceived, EventReceivedData
from everloop_shared.errors import InputRejected, Misconfigured
from everloop_shared.messaging.routes import Position, Record, Route, Source

pytestmark = pytest.mark.parametrize("kind", BUSES, indirect=True)
DEAD = DEAD_LETTERS[SERVICE].topic


def decode(record: Record) -> EventReceived | None:
    """An order of a shop as an observation; orders that were deleted are skipped."""
    if record.value is None:
        return None
    order = json.loads(record.value)
    if "customer" not in order:
        raise InputRejected("customer: an order needs one")
    at, headers = record.at, dict(record.headers)
    return EventReceived(
        id=derived_id("", "orders", at.topic, at.partition, at.offset),
        loop=headers.get("loop", b"l").decode(),
        subject=order["customer"],
        time=NOW,
        data=EventReceivedData(entity=order["customer"], fields={"total": order["total"]}, received=NOW),
    )


class Handler:
    """Collects what was decoded, and publishes it as an event of ours."""

    def __init__(self) -> None:
        self.events: list[EventReceived] = []
        self.places: list[Position] = []

    async def __call__(self, event: EventReceived, at: Position) -> list[Event]:
        self.events.append(event)
        self.places.append(at)
        return [event]


def order(customer: str, total: float = 1.0) -> bytes:
    """A record of the shop."""
    return json.dumps({"customer": customer, "total": total}).encode()


async def test_records_of_a_source_are_decoded_handled_and_committed(bus: Bus, orders: str) -> None:
    handler = Handler()
    async with running(bus.consumer([Source(orders, decode, handler)])):
        await bus.send_raw(orders, b"c1", order("c1", 9.5), [("loop", b"shop")])
        await bus.send_raw(orders, b"c2", None)
        await bus.send_raw(orders, b"c3", order("c3"))
        await until(lambda: len(handler.events) == 2)

    by_subject = {e.subject: e for e in handler.events}
    assert by_subject["c1"].loop == "shop"
    assert by_subject["c1"].data.fields == {"total": 9.5}
    assert {at.topic for at in handler.places} == {orders}
    assert {e["id"] for e in await bus.sent(EventReceived.topic)} == {e.id for e in handler.events}
    assert await bus.committed_raw(orders) == 3


async def test_a_restart_continues_after_the_last_record_of_a_source(bus: Bus, orders: str) -> None:
    first, second = Handler(), Handler()
    async with running(bus.consumer([Source(orders, decode, first)])):
        await bus.send_raw(orders, b"c1", order("before"))
        await until(lambda: len(first.events) == 1)

    async with running(bus.consumer([Source(orders, decode, second)])):
        await bus.send_raw(orders, b"c1", order("after"))
        await until(lambda: len(second.events) == 1)

    assert [e.subject for e in second.events] == ["after"]


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (b'{"total": 1}', [], "customer: an order needs one"),
        (b"\xff", [], "the decoder of {} refuses it: "),
        (order("c1"), [("loop", b"no such/name")], "is not a valid loop name"),
    ],
)
async def test_a_record_that_the_decoder_refuses_is_a_dead_letter(
    bus: Bus, orders: str, value: bytes, headers: list[tuple[str, bytes]], reason: str
) -> None:
    handler = Handler()
    async with running(bus.consumer([Source(orders, decode, handler)])):
        await bus.send_raw(orders, b"c1", value, headers)
        await bus.send_raw(orders, b"c1", order("good"))
        await until(lambda: [e.subject for e in handler.events] == ["good"])

    [dead_letter] = await bus.sent(DEAD)
    assert reason.format(orders) in dead_letter["data"]["reason"]
    assert dead_letter["data"]["topic"] == orders
    assert b64decode(dead_letter["data"]["value"]) == value


async def test_a_source_is_consumed_beside_routes(bus: Bus, orders: str) -> None:
    from_source, from_route = Handler(), list[str]()

    async def on_event_received(event: EventReceived, at: Position) -> list[Event]:
        from_route.append(event.subject)
        return []

    routes: list[Route | Source] = [Source(orders, decode, from_source), Route(EventReceived.topic, on_event_received)]
    async with running(bus.consumer(routes)):
        await bus.send_raw(orders, b"c1", order("c1"))
        await send_all(bus, [received("1", entity="e1")])
        await until(lambda: set(from_route) == {"c1", "e1"})  # what the source's handler publishes, and our own


async def test_a_source_and_a_route_of_one_name_are_refused(bus: Bus) -> None:
    with pytest.raises(Misconfigured, match="same topic"):
        bus.consumer([Source(EventReceived.topic.name, decode, Handler()), Route(EventReceived.topic, Handler())])
