"""A record is on the log before its request is handled; what comes afterwards follows when the broker takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import REGISTRY
from tests.engines.buses import until

from everloop_schemas.audit import RequestRecorded
from everloop_schemas.envelope import Event
from everloop_shared.access.identity import Identity
from everloop_shared.audit import trail as trail_module
from everloop_shared.audit.errors import NotRecorded
from everloop_shared.audit.request import LIMITS, AuditedRequest
from everloop_shared.audit.trail import AuditTrail
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.memory import MemoryBroker


class Bus:
    """A memory broker that can be away, or silent until the test lets it answer."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.is_away = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def publish(self, events: Sequence[Event]) -> None:
        """As the engine of a service."""
        await self.answers.wait()
        if self.is_away:
            raise Unavailable("no broker")
        await self.broker.engine("registry").publish(events)

    @property
    def records(self) -> list[RequestRecorded]:
        """All records of the topic."""
        return [event for event in self.broker.events(RequestRecorded.topic) if isinstance(event, RequestRecorded)]

    def phases(self) -> list[str]:
        """The phase of each."""
        return [record.data.phase for record in self.records]


def request(address: str = "10.0.0.1", **more: object) -> AuditedRequest:
    """Somebody asks for a rollback."""
    known = AuditedRequest(
        "registry", address, "POST", "r-1", action="rollout.change", route="/v1/loops/{loop}/rollback"
    )
    known.identity = Identity("alice", "key", "evl_1")
    for name, value in more.items():
        setattr(known, name, value)
    return known


async def test_a_request_is_on_the_log_before_it_is_handled_and_its_answer_afterwards() -> None:
    bus, asked = Bus(), request(loop="churn")
    trail = AuditTrail("registry", bus.publish)

    await trail.record(asked)
    before = bus.records
    asked.status = 409
    trail.note_answer(asked)
    await trail.drain()

    [requested], [_, answered] = before, bus.records
    assert (requested.data.phase, requested.data.status, answered.data.phase, answered.data.status) == (
        "requested",
        None,
        "answered",
        409,
    )
    assert requested.subject == answered.subject != requested.id
    assert (answered.loop, answered.source, answered.key()) == ("churn", "everloop/registry", b"churn")
    assert (answered.actor, answered.actor_kind, answered.actor_source) == ("alice", "key", "evl_1")
    assert (answered.data.address, answered.data.request, answered.data.method) == ("10.0.0.1", "r-1", "POST")


async def test_without_an_acknowledgement_a_request_is_refused_in_time_and_what_is_noted_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trail_module, "WITHIN_S", 0.05)
    bus = Bus()
    trail = AuditTrail("registry", bus.publish)
    bus.answers.clear()

    with pytest.raises(NotRecorded, match=r"not acknowledged the record of this request within 0\.05 s; nothing was"):
        await trail.record(request())
    trail.note_answer(request(status=200))
    bus.answers.set()
    await until(lambda: "answered" in bus.phases())

    bus.is_away = True
    with pytest.raises(NotRecorded) as refused:
        await trail.record(request())
    assert refused.value.http_status == 503
    bus.is_away = False
    monkeypatch.setattr(trail_module, "WITHIN_S", 5.0)
    await trail.record(request())
    assert bus.phases()[-1] == "requested"
    await trail.drain()


async def test_waiting_requests_and_what_is_noted_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail_module, "MAX_WAITING", 2)
    monkeypatch.setattr(trail_module, "MAX_NOTED", 3)
    bus = Bus()
    trail = AuditTrail("bounded", bus.publish)
    bus.answers.clear()

    waiting = [asyncio.ensure_future(trail.record(request())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(NotRecorded, match="2 requests wait"):
        await trail.record(request())
    for _ in range(5):
        trail.note_answer(request(status=200))
    bus.answers.set()
    await asyncio.gather(*waiting)
    await trail.drain()

    lost = REGISTRY.get_sample_value("everloop_audit_lost_records_total", {"service": "bounded"})
    assert sorted(bus.phases()) == ["answered"] * 3 + ["requested"] * 2
    assert lost == 2


async def test_a_flood_of_refusals_becomes_a_few_records_and_a_number() -> None:
    bus, seconds = Bus(), [5.0]
    trail = AuditTrail("registry", bus.publish, lambda: seconds[0])

    for _ in range(1_000):
        trail.note_refusal(request(status=401, refused="token_not_valid", identity=Identity("anonymous", "anonymous")))
    seconds[0] = 6.0
    await until(lambda: "left_out" in bus.phases())
    await trail.drain()

    refused = [record for record in bus.records if record.data.phase == "refused"]
    [left_out] = [record.data for record in bus.records if record.data.phase == "left_out"]
    assert len(refused) == 3
    assert (left_out.left_out, left_out.address, left_out.status) == (997, "10.0.0.1", None)
    assert (refused[0].actor, refused[0].actor_kind, refused[0].data.refused) == ("anonymous", None, "token_not_valid")


async def test_texts_are_bounded_and_a_name_that_is_no_loop_is_not_taken_for_one() -> None:
    long = request(**{name: "x" * 10_000 for name in LIMITS}, loop="NO LOOP", traceparent="0" * 10_000)
    long.identity = Identity("y" * 10_000, "token", "z" * 10_000)

    event = long.event("refused")

    assert event.loop == "*"
    assert len(event.encode()) < 2_000
