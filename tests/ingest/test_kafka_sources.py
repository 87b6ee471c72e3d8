"""Sources on a real broker: what their records become, across restarts, replicas, revisions and failures of others."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer
from tests.ingest.sourced_ingest import SourcedIngest, prices, source_status, sourced_ingest

from everloop.local.kafka import Broker
from everloop.local.ports import HOST, free_port
from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.kafka.engine import KafkaEngine
from everloop_shared.messaging.routes import Engine, EngineFactory

pytestmark = pytest.mark.kafka


@pytest.fixture
async def sources(kafka: Broker, tmp_path: Path) -> AsyncIterator[SourcedIngest]:
    """Topics of an installation and of its user."""
    async with sourced_ingest(kafka.bootstrap, tmp_path) as found:
        yield found


async def test_records_of_a_source_are_events_and_a_restart_repeats_and_loses_none(sources: SourcedIngest) -> None:
    orders = await sources.create("orders", partitions=3)
    await sources.apply({"name": "orders", "topic": orders})
    for n in range(30):
        await sources.send("orders", {"price": n}, partition=n % 3)

    async with sources.running() as client:
        first = await sources.events(30)
        await sources.until(lambda: source_status(client, "orders"))
    await sources.send("orders", {"price": 30}, {"price": 31})
    async with sources.running():
        both = await sources.events(32)

    assert prices(first) == list(range(30))
    assert prices(both) == list(range(32))
    assert len({event.id for event in both}) == 32


async def test_a_bad_record_is_a_dead_letter_with_its_place_field_and_fix_and_the_rest_goes_on(
    sources: SourcedIngest,
) -> None:
    orders = await sources.create("orders")
    poison = [b"\xff\xfe", b"[" * 50_000, b"x" * 900_000, b'{"price": "free"}', None]
    await sources.apply({"name": "orders", "topic": orders})

    async with sources.running(max_event_bytes=100_000) as client:
        await sources.send("orders", {"price": 1}, *poison, {"price": 2})
        events, letters = await sources.events(2), await sources.dead_letters(4)
        status = await source_status(client, "orders")
        metrics = (await client.get("/metrics")).text
        place = {"topic": orders, "partition": 0, "offset": 4, "timestamp": 1_790_000_000_000}
        repaired = {**place, "value": b64encode(b'{"price": 3}').decode()}
        records = "/v1/loops/market/sources/orders/records"
        again = [(await client.post(records, json=repaired)).json()["ids"] for _ in (1, 2)]
        refused = await client.post(records, json={**place, "value": b64encode(poison[3] or b"").decode()})
        unknown = await client.post(records.replace("orders", "none"), json=repaired)

    assert prices(events) == [1, 2]
    assert again[0] == again[1]
    assert (refused.status_code, unknown.status_code) == (422, 404)
    assert "data.price" in refused.json()["detail"]
    by_offset = {letter.data.offset: letter for letter in letters}
    assert sorted(by_offset) == [1, 2, 3, 4]
    assert {(x.loop, x.data.topic, x.data.partition, x.data.error) for x in letters} == {
        ("market", orders, 0, "SourceRecordRejected")
    }
    assert {x.data.reader for x in letters} == {"orders"}
    assert "900,000 bytes, the limit is 100,000" in by_offset[3].data.reason
    assert by_offset[4].data.reason == (
        "source orders of loop market: data.price must be a finite number, is text (read from price)"
    )
    assert (status["state"], status["records"], status["events"], status["rejected"]) == ("reading", 7, 2, 4)
    assert 'everloop_ingest_source_rejected_total{loop="market",source="orders"} 4.0' in metrics


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_topic_may_be_compressed(sources: SourcedIngest, codec: str) -> None:
    orders = await sources.create("orders")
    await sources.apply({"name": "orders", "topic": orders})
    producer = Producer({"bootstrap.servers": sources.bootstrap, "compression.type": codec, "linger.ms": 50})

    async with sources.running():
        for n in range(200):
            producer.produce(orders, json.dumps({"price": n, "padding": "x" * 200}))
        await asyncio.to_thread(producer.flush)
        events = await sources.events(200)

    assert prices(events) == list(range(200))


async def test_what_a_transaction_wrote_counts_once_it_is_committed(sources: SourcedIngest) -> None:
    orders = await sources.create("orders")
    await sources.apply({"name": "orders", "topic": orders})
    producer = Producer({"bootstrap.servers": sources.bootstrap, "transactional.id": orders})

    def write() -> None:
        producer.init_transactions()
        for price, end in ((1, producer.abort_transaction), (2, producer.commit_transaction)):
            producer.begin_transaction()
            producer.produce(orders, json.dumps({"price": price}))
            producer.flush()
            end()

    async with sources.running() as client:
        await asyncio.to_thread(write)
        events = await sources.events(1)
        status = await source_status(client, "orders")

    assert prices(events) == [2]
    assert (status["records"], status["lost"]) == (1, 0)


async def test_a_source_that_starts_at_the_latest_record_reads_what_came_while_nobody_read(
    sources: SourcedIngest,
) -> None:
    orders = await sources.create("orders", partitions=2)
    await sources.apply({"name": "orders", "topic": orders, "start": "latest"})
    await sources.send("orders", {"price": 1}, partition=0)

    async with sources.running() as client:
        await sources.until(lambda: _reads(client, "orders"))
    await sources.send("orders", {"price": 2}, partition=0)
    await sources.send("orders", {"price": 3}, partition=1)
    async with sources.running():
        events = await sources.events(2)

    assert prices(events) == [2, 3]


async def test_a_topic_that_is_not_there_is_said_and_waited_for_while_another_source_goes_on(
    sources: SourcedIngest,
) -> None:
    orders = await sources.create("orders")
    await sources.apply({"name": "orders", "topic": orders}, {"name": "late", "topic": sources.topic("late")})

    async with sources.running() as client:
        await sources.send("orders", {"price": 1})
        await sources.events(1)
        waiting = await sources.until(lambda: _in_state(client, "late", "waiting"))
        ready = await client.get("/readyz")
        await sources.create("late")
        await sources.send("late", {"price": 2})
        events = await sources.events(2)
        again = await sources.until(lambda: _in_state(client, "late", "reading"))

    assert f"the topic {sources.topic('late')} is not on the cluster; create it" in waiting["detail"]
    assert ready.status_code == 200
    assert ready.text.splitlines()[0] == "ok"
    assert "source market/late is not read: the topic" in ready.text
    assert prices(events) == [1, 2]
    assert "detail" not in again


async def test_a_topic_that_vanishes_and_comes_back_is_read_from_its_new_beginning(sources: SourcedIngest) -> None:
    orders = await sources.create("orders")
    await sources.apply({"name": "orders", "topic": orders})

    async with sources.running() as client:
        await sources.send("orders", {"price": 1}, {"price": 2})
        await sources.events(2)
        await sources.delete("orders")
        await sources.until(lambda: _in_state(client, "orders", "waiting"), 30)
        await sources.create("orders")
        await sources.send("orders", {"price": 3})
        events = await sources.events(3, 30)

    assert prices(events) == [1, 2, 3]


async def test_records_that_were_deleted_before_they_were_read_are_counted_as_lost(sources: SourcedIngest) -> None:
    orders = await sources.create("orders")
    await sources.apply({"name": "orders", "topic": orders})
    async with sources.running():
        await sources.send("orders", {"price": 0})
        await sources.events(1)
    await sources.send("orders", *({"price": n} for n in range(1, 6)))
    await sources.delete_records("orders", before=4)

    async with sources.running() as client:
        events = await sources.events(3)
        status = await source_status(client, "orders")
        ready = (await client.get("/readyz")).text

    assert prices(events) == [0, 4, 5]
    assert status["lost"] == 3
    assert f"3 records of {orders} were gone before they could be read" in ready


async def test_a_topic_whose_records_changed_shape_is_said(sources: SourcedIngest) -> None:
    orders = await sources.create("orders")
    await sources.apply({"name": "orders", "topic": orders})

    async with sources.running() as client:
        await sources.send("orders", *({"cost": n} for n in range(12)))
        status = await sources.until(lambda: _in_state(client, "orders", "rejecting"))
        ready = (await client.get("/readyz")).text
        await sources.send("orders", {"price": 1})
        await sources.until(lambda: _in_state(client, "orders", "reading"))

    assert "data.price is missing" in status["rejection"]
    assert "source market/orders: the last 1" in ready


async def test_the_replicas_share_the_partitions_and_one_that_stops_leaves_them_to_the_other(
    sources: SourcedIngest,
) -> None:
    orders = await sources.create("orders", partitions=2)
    await sources.apply({"name": "orders", "topic": orders})

    async with sources.running(instance="a") as one:
        async with sources.running(instance="b") as two:
            await sources.until(lambda: _partitions(one, two, each=1))
            for n in range(10):
                await sources.send("orders", {"price": n}, partition=n % 2)
            await sources.events(10)
        await sources.until(lambda: _partitions(one, each=2))
        for n in range(10, 20):
            await sources.send("orders", {"price": n}, partition=n % 2)
        events = await sources.events(20)

    assert prices(events) == list(range(20))


async def test_a_revision_adds_changes_and_removes_sources_and_a_source_put_back_goes_on(
    sources: SourcedIngest,
) -> None:
    orders, returns = await sources.create("orders"), await sources.create("returns")
    await sources.apply()

    async with sources.running() as client:
        await sources.apply({"name": "orders", "topic": orders})
        await sources.send("orders", {"price": 1})
        await sources.events(1)
        changed = {"name": "orders", "topic": orders, "events": {"fields": {"price": "cost"}}}
        state = await sources.apply(changed, {"name": "returns", "topic": returns})
        await sources.until(lambda: _has_revision(client, state.revision))
        await sources.send("orders", {"cost": 2})
        await sources.send("returns", {"price": 3})
        await sources.events(3)
        await sources.apply({"name": "returns", "topic": returns})
        await sources.until(lambda: _is_stopped(client, "orders"))
        await sources.send("orders", {"cost": 4})
        await sources.send("returns", {"price": 5})
        without = await sources.events(4)
        await sources.apply(changed)
        events = await sources.events(5)

    assert prices(without) == [1, 2, 3, 5]
    assert prices(events) == [1, 2, 3, 4, 5]


async def test_a_deleted_loop_is_not_read_and_a_new_lifetime_reads_from_the_beginning(sources: SourcedIngest) -> None:
    orders = await sources.create("orders")
    source = {"name": "orders", "topic": orders}

    async with sources.running() as client:
        await sources.apply(source)
        await sources.send("orders", {"price": 1})
        [first] = await sources.events(1)
        state = await sources.apply(source, deleted=True)
        await sources.until(lambda: _is_stopped(client, "orders"))
        await sources.send("orders", {"price": 2})
        await sources.apply(source, life=state.revision + 1)
        events = await sources.events(3)

    assert prices(events) == [1, 1, 2]
    assert sum(event.id == first.id for event in events) == 2


async def test_a_source_waits_for_a_producer_that_is_behind_and_goes_on(sources: SourcedIngest) -> None:
    orders = await sources.create("orders")
    await sources.apply({"name": "orders", "topic": orders})
    slow = SlowPublishing()

    async with sources.running(wrap=slow.wrap) as client:
        await sources.send("orders", *({"price": n} for n in range(5)))
        waiting = await sources.until(lambda: _in_state(client, "orders", "waiting"))
        slow.away = False
        events = await sources.events(5)
        await sources.until(lambda: _in_state(client, "orders", "reading"))

    assert "its events are not published: no broker" in waiting["detail"]
    assert prices(events) == list(range(5))


async def test_internal_topics_unknown_clusters_and_too_many_sources_are_refused(sources: SourcedIngest) -> None:
    internal = sources.prefix + EventReceived.topic.name
    orders = await sources.create("orders")
    await sources.apply(
        {"name": "own", "topic": internal},
        {"name": "foreign", "topic": "orders", "cluster": "crm"},
        {"name": "orders", "topic": orders},
        {"name": "many", "topic": sources.topic("many")},
    )

    async with sources.running(max_sources=3) as client:
        await sources.send("orders", {"price": 1})
        await sources.events(1)
        statuses = {s["source"]: s for s in (await client.get("/v1/loops/market/sources")).json()["sources"]}

    assert {name: status["state"] for name, status in statuses.items()} == {
        "own": "refused",
        "foreign": "refused",
        "orders": "reading",
        "many": "refused",
    }
    assert "is a topic of Everloop" in statuses["own"]["detail"]
    assert "not in the file of EVERLOOP_INGEST_CLUSTERS" in statuses["foreign"]["detail"]
    assert "EVERLOOP_INGEST_MAX_SOURCES" in statuses["many"]["detail"]


async def test_a_cluster_that_the_operator_named_is_read(sources: SourcedIngest, tmp_path: Path) -> None:
    orders = await sources.create("orders")
    named = tmp_path / "clusters.json"
    named.write_text(f'{{"crm": {{"bootstrap": "{sources.bootstrap}"}}}}')
    await sources.apply({"name": "orders", "topic": orders, "cluster": "crm"})

    async with sources.running(clusters=named):
        await sources.send("orders", {"price": 1})
        events = await sources.events(1)

    assert prices(events) == [1]


async def test_a_cluster_that_does_not_answer_is_waited_for_while_another_source_goes_on(
    sources: SourcedIngest, tmp_path: Path
) -> None:
    orders = await sources.create("orders")
    named = tmp_path / "clusters.json"
    named.write_text(f'{{"crm": {{"bootstrap": "{HOST}:{free_port()}"}}}}')
    await sources.apply({"name": "away", "topic": "t", "cluster": "crm"}, {"name": "orders", "topic": orders})

    async with sources.running(clusters=named) as client:
        await sources.until(lambda: _in_state(client, "away", "waiting"))
        await sources.send("orders", {"price": 1})
        events = await sources.events(1)

    assert prices(events) == [1]


class SlowPublishing:
    """The engine, whose publishing fails while it is away."""

    def __init__(self) -> None:
        self.away = True

    def wrap(self, connect: EngineFactory) -> EngineFactory:
        def connected(service: str) -> Engine:
            engine = connect(service)
            assert isinstance(engine, KafkaEngine)
            publish = engine.publish

            async def published(events: Sequence[Event]) -> None:
                if self.away and events:
                    raise Unavailable("no broker")
                await publish(events)

            engine.publish = published  # type: ignore[method-assign]
            return engine

        return connected


async def _in_state(client: httpx.AsyncClient, source: str, state: str) -> dict[str, Any]:
    status = await source_status(client, source)
    return status if status.get("state") == state else {}


async def _reads(client: httpx.AsyncClient, source: str) -> bool:
    return bool((await source_status(client, source)).get("partitions"))


async def _partitions(*clients: httpx.AsyncClient, each: int) -> bool:
    found = await asyncio.gather(*(source_status(client, "orders") for client in clients))
    return all(status.get("partitions") == each for status in found)


async def _has_revision(client: httpx.AsyncClient, revision: int) -> bool:
    answer = await client.get("/v1/loops/market")
    return bool(answer.json().get("revision") == revision)


async def _is_stopped(client: httpx.AsyncClient, source: str) -> bool:
    return f'source="{source}"' not in (await client.get("/metrics")).text
