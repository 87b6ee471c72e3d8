"""A broker that is killed, frozen or not there yet: nothing acknowledged is lost, and everything resumes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

import pytest
import uvloop
from aiokafka.conn import create_conn  # type: ignore[import-untyped]
from aiokafka.errors import KafkaConnectionError  # type: ignore[import-untyped]
from aiokafka.protocol.metadata import MetadataRequest  # type: ignore[import-untyped]
from fastapi import APIRouter
from msgspec.structs import replace
from tests.builders.running import http_client
from tests.engines.buses import KafkaBus, computed, received, running, send_all, until
from tests.tasks import cancel

from everloop.local.kafka import Broker
from everloop_schemas.audit import RequestRecorded
from everloop_schemas.envelope import Event
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_shared.audit.trail import audit_trail
from everloop_shared.errors import InputRejected, Overloaded, Unavailable
from everloop_shared.http import HttpEndpoint
from everloop_shared.http.endpoint import REQUEST_DRAIN_S
from everloop_shared.messaging.kafka.client import client_settings
from everloop_shared.messaging.kafka.connection import repair
from everloop_shared.messaging.kafka.poller import RecordPoller
from everloop_shared.messaging.kafka.producer_connection import ProducerConnection
from everloop_shared.messaging.routes import Position, Route, connected
from everloop_shared.process import DRAIN_S
from everloop_shared.service import Service
from everloop_shared.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


class Handler:
    """Notes ids and answers with one output each."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, event: EventReceived, at: Position) -> list[Event]:
        self.seen.append(event.id)
        return [computed(event)]


@contextmanager
def frozen(broker: Broker) -> Iterator[None]:
    """The broker hangs: connections stay open and nothing answers."""
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


async def test_the_engine_survives_a_kill_of_the_broker(
    kafka: Broker, kafka_bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_shared.messaging.kafka.engine.AWAY_AFTER_S", 1.0)
    handler, accepted = Handler(), list[str]()
    engine = kafka_bus.engine(delivery_timeout_s=2.0)
    async with running(engine.consumer([Route(EventReceived.topic, handler)])) as consumer:

        async def publish(name: str) -> None:
            await engine.publish([received(name, entity=name)])
            accepted.append(name)

        await asyncio.gather(*(publish(f"before-{i}") for i in range(50)))
        await kafka.kill()
        with pytest.raises(Unavailable, match="Kafka at"):
            await publish("during")
        await until(lambda: "Kafka at" in (engine.ready() or ""))
        assert consumer.live() is None

        await kafka.restart()
        await until(lambda: _published(publish, "after"), within_s=30)
        await until(lambda: set(accepted) <= set(handler.seen), within_s=30)
        await until(lambda: engine.ready() is None, within_s=30)
        outputs = {record["id"] for record in await kafka_bus.sent(FeaturesComputed.topic)}
        await until(lambda: _has(kafka_bus, {f"of-{name}" for name in accepted}), within_s=30)

    assert len(accepted) >= 51
    assert outputs


async def test_an_engine_without_publications_becomes_ready_again(kafka: Broker, kafka_bus: KafkaBus) -> None:
    async with connected(kafka_bus.engine(delivery_timeout_s=1.0)) as engine:
        await engine.publish([received("before")])
        await kafka.kill()
        with pytest.raises(Unavailable):
            await engine.publish([received("during")])
        assert "Kafka at" in (engine.ready() or "")

        await kafka.restart()

        await until(lambda: engine.ready() is None, within_s=30)
        await until(lambda: _published(lambda name: engine.publish([received(name)]), "after"))


async def test_a_broker_that_hangs_fills_bounded_buffers_only(kafka: Broker, kafka_bus: KafkaBus) -> None:
    async with connected(kafka_bus.engine(delivery_timeout_s=1.0, max_unacked_events=10)) as engine:
        await engine.publish([received("warm")])
        with frozen(kafka):
            waiting = [asyncio.create_task(engine.publish([received(f"{i}")])) for i in range(10)]
            await asyncio.sleep(0)
            answers = await asyncio.gather(*waiting, engine.publish([received("one more")]), return_exceptions=True)

        assert {type(answer) for answer in answers[:10]} == {Unavailable}
        assert isinstance(answers[10], Overloaded)
        await until(lambda: _published(lambda name: engine.publish([received(name)]), "later"))


async def test_a_request_that_cannot_be_recorded_does_nothing_until_the_broker_is_back(
    kafka: Broker, kafka_bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_shared.audit.trail.WITHIN_S", 1.0)
    done, settings, router = list[str](), Settings(audit="on"), APIRouter()

    @router.post("/v1/loops/{loop}/rollback")
    async def roll_back(loop: str) -> dict[str, str]:
        done.append(loop)
        return {}

    @router.get("/v1/loops/{loop}")
    async def get_loop(loop: str) -> dict[str, str]:
        return {}

    async with connected(kafka_bus.engine(delivery_timeout_s=2.0)) as engine:
        trail = audit_trail("registry", settings, engine.publish)
        assert trail is not None
        service = Service("registry", settings, [HttpEndpoint("registry", settings, router, trail=trail)])
        async with http_client(service) as client:

            async def post(loop: str) -> int:
                return (await client.post(f"/v1/loops/{loop}/rollback", json={})).status_code

            before = await post("before")
            with frozen(kafka):
                during, read = await asyncio.gather(post("during"), client.get("/v1/loops/any"))
            await until(lambda: _answers(post("after"), 200), within_s=30)
        await trail.drain(10)
        recorded = [(one["loop"], one["data"]["phase"]) for one in await kafka_bus.sent(RequestRecorded.topic)]

    assert (before, during, read.status_code) == (200, 503, 200)
    assert set(done) == {"before", "after"}
    assert {("before", "requested"), ("before", "answered"), ("after", "answered")} <= set(recorded)
    assert ("during", "answered") not in recorded


async def test_the_start_waits_for_a_broker_that_is_not_there_yet(kafka: Broker, kafka_bus: KafkaBus) -> None:
    await kafka.stop()
    handler = Handler()
    consumer = kafka_bus.consumer([Route(EventReceived.topic, handler)])
    starting = asyncio.create_task(consumer.start())
    try:
        await until(lambda: "connecting" in (consumer.ready() or ""))
        assert not starting.done()
    finally:
        await kafka.restart()

    await asyncio.wait_for(starting, 60)
    await send_all(kafka_bus, [received("1")])
    await until(lambda: handler.seen == ["1"])
    await consumer.stop()


async def test_a_stop_while_the_broker_is_away_ends_within_the_drain(kafka: Broker, kafka_bus: KafkaBus) -> None:
    handler = Handler()
    engine = kafka_bus.engine()
    consumer = engine.consumer([Route(EventReceived.topic, handler)])
    await consumer.start()
    await engine.publish([received("1")])
    await until(lambda: handler.seen == ["1"])
    with frozen(kafka):
        waiting = asyncio.create_task(engine.publish([received("2")]))
        await asyncio.sleep(0)
        async with asyncio.timeout(DRAIN_S - REQUEST_DRAIN_S):
            await consumer.stop()

        with pytest.raises(Unavailable):
            await waiting


async def test_a_producer_whose_start_is_cancelled_leaves_no_connection(kafka: Broker, kafka_bus: KafkaBus) -> None:
    closed = asyncio.Event()

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on the question for versions, which each connection begins with, and leave the next one open."""
        from_broker, to_broker = await asyncio.open_connection(*kafka.bootstrap.split(":"))
        to_broker.write(await frame(reader))
        writer.write(await frame(from_broker))
        await reader.read()
        for end in (to_broker, writer):
            end.close()
        closed.set()

    async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        elsewhere = kafka_bus.settings.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{port}"})
        connection = ProducerConnection(client_settings(elsewhere, "test"), delivery_timeout_s=10)
        with pytest.raises(TimeoutError) as held:
            async with asyncio.timeout(1):
                await connection.start()
        async with asyncio.timeout(5):
            await closed.wait()
        assert held.type is TimeoutError

        await connection.discard()


async def frame(reader: asyncio.StreamReader) -> bytes:
    """One request or answer of Kafka's protocol, its length before it."""
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length))


async def test_a_stop_during_the_start_is_clean(kafka_bus: KafkaBus) -> None:
    engine = kafka_bus.engine(kafka_bootstrap="127.0.0.1:9")
    consumer = engine.consumer([Route(EventReceived.topic, Handler())])
    starting = asyncio.create_task(consumer.start())
    await until(lambda: "connecting" in (engine.ready() or ""))

    await cancel(starting)
    await consumer.stop()

    assert engine.ready() == "stopping"
    with pytest.raises(Unavailable):
        await engine.publish([received("1")])


def test_a_lost_connection_raises_a_kafka_error_on_uvloop(kafka: Broker) -> None:
    repair()

    async def send_on_a_lost_one() -> None:
        connection = await create_conn(*kafka.bootstrap.split(":"))
        connection._writer.transport.abort()  # noqa: SLF001 - aiokafka loses no connection on request
        await asyncio.sleep(0)
        with pytest.raises(KafkaConnectionError, match="broken"):
            await connection.send(MetadataRequest([]))
        assert not connection.connected()

    uvloop.run(send_on_a_lost_one())


async def test_a_failing_query_of_end_offsets_ends_the_consumer(
    kafka_bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: RecordPoller) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(RecordPoller, "query_ends", broken)
    async with running(kafka_bus.consumer([Route(EventReceived.topic, Handler())])) as consumer:
        assert isinstance(await consumer.failed(), ZeroDivisionError)


async def test_an_event_that_is_too_large_is_rejected_before_it_is_sent(kafka_bus: KafkaBus) -> None:
    huge = received("huge")
    huge = huge.copy_with(data=replace(huge.data, fields={"x": "y" * 9_000_000}))
    large = huge.copy_with(data=replace(huge.data, fields={"x": "y" * 7_000_000}))
    handler = Handler()
    engine = kafka_bus.engine()
    async with running(engine.consumer([Route(EventReceived.topic, handler)])):
        with pytest.raises(InputRejected, match="bytes"):
            await engine.publish([huge])

        await engine.publish([large, received("small")])
        await until(lambda: sorted(handler.seen) == ["huge", "small"])


async def test_the_dead_letter_of_the_largest_record_still_fits(kafka_bus: KafkaBus) -> None:
    handler = Handler()
    async with running(kafka_bus.consumer([Route(EventReceived.topic, handler)])) as consumer:
        producer_limit = 8_000_000
        broken = received("x").encode() + b" " * producer_limit + b"}"
        await kafka_bus.send(EventReceived.topic, b"l/a", broken)
        await send_all(kafka_bus, [received("next")])

        await until(lambda: handler.seen == ["next"])
        assert consumer.live() is None


async def _published(publish: object, name: str) -> bool:
    try:
        await publish(name)  # type: ignore[operator]
    except (Unavailable, Overloaded):
        return False
    return True


async def _has(bus: KafkaBus, ids: set[str]) -> bool:
    return ids <= {record["id"] for record in await bus.sent(FeaturesComputed.topic)}


async def _answers(asked: Awaitable[int], status: int) -> bool:
    return await asked == status
