"""What only the Kafka engine does: single partitions pause, replicas share, members are static, commits are few."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete  # type: ignore[import-untyped]
from aiokafka.structs import TopicPartition  # type: ignore[import-untyped]
from msgspec.structs import replace
from tests.builders.metrics import metric_value
from tests.engines.buses import PARTITIONS, SERVICE, KafkaBus, computed, received, running, send_all, until

from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived
from everloop_shared import metrics
from everloop_shared.errors import Misconfigured, Unavailable
from everloop_shared.messaging.kafka.consumer import KafkaConsumer
from everloop_shared.messaging.kafka.group import GroupConsumer
from everloop_shared.messaging.kafka.partitioning import partition_of
from everloop_shared.messaging.kafka.poller import RecordPoller
from everloop_shared.messaging.processing.processor import Processor, Progress
from everloop_shared.messaging.routes import Partition, Position, Record, Route, connected

pytestmark = pytest.mark.kafka


class Handler:
    """Notes where each record was handled; raises Unavailable while `closed` names its entity."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.closed: str | None = None
        self.refused = 0
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def __call__(self, event: EventReceived, at: Position) -> list[Event]:
        self.entered.set()
        if self.gate:
            await self.gate.wait()
        if event.subject == self.closed:
            self.refused += 1
            raise Unavailable("this entity's shop is closed")
        self.seen.append((event.id, at.partition))
        return [computed(event)]

    @property
    def ids(self) -> list[str]:
        """The ids seen."""
        return [name for name, _ in self.seen]


def on(bus: KafkaBus, handler: Handler, instance: str = "one") -> KafkaConsumer:
    """One replica."""
    return bus.consumer([Route(EventReceived.topic, handler)], instance=instance)


def entity_on(partition: int) -> str:
    """An entity whose key goes to this partition."""
    return next(f"e{i}" for i in range(1000) if partition_of(f"l/e{i}".encode(), PARTITIONS) == partition)


async def test_one_partition_backs_off_while_the_others_go_on(kafka_bus: KafkaBus) -> None:
    handler = Handler()
    handler.closed = entity_on(0)
    async with running(on(kafka_bus, handler)):
        await send_all(kafka_bus, [received("held", entity_on(0)), received("behind", entity_on(0))])
        await until(lambda: handler.refused >= 2)
        await send_all(kafka_bus, [received(f"{i}", entity_on(1)) for i in range(20)])
        await until(lambda: len(handler.seen) == 20)
        assert "held" not in handler.ids

        handler.closed = None
        await until(lambda: handler.ids[-2:] == ["held", "behind"])
        await until(lambda: _committed(kafka_bus, 22))


async def test_a_partition_that_backs_off_is_alive(kafka_bus: KafkaBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everloop_shared.messaging.kafka.poller.STALLED_AFTER_S", 0.5)
    monkeypatch.setattr("everloop_shared.messaging.kafka.consumer.QUERY_ENDS_EVERY_S", 0.05)
    waiting, stuck = Handler(), Handler()
    waiting.closed, stuck.gate = entity_on(0), asyncio.Event()
    async with running(on(kafka_bus, waiting)) as consumer:
        await send_all(kafka_bus, [received("held", entity_on(0))])
        await until(lambda: waiting.refused >= 6)
        assert consumer.live() is None

    async with running(on(kafka_bus, stuck)) as consumer:
        await until(lambda: consumer.live() is not None)
        assert f"{EventReceived.topic.name}/0 stands at 0 of 1" in (consumer.live() or "")
        stuck.gate.set()
        await until(lambda: consumer.live() is None)


async def test_a_consumer_that_never_starts_on_its_partitions_is_not_alive(
    kafka_bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_shared.messaging.kafka.poller.STALLED_AFTER_S", 0.5)
    monkeypatch.setattr("everloop_shared.messaging.kafka.consumer.QUERY_ENDS_EVERY_S", 0.05)
    asked, gate, handler = asyncio.Event(), asyncio.Event(), Handler()

    async def start_at(topic: str, partition: int) -> int | None:
        asked.set()
        await gate.wait()
        return 0

    await send_all(kafka_bus, [received("waits", entity_on(0))])
    consumer = kafka_bus.consumer([Route(EventReceived.topic, handler)], start_at=start_at)
    async with running(consumer):
        await asked.wait()
        await until(lambda: consumer.live() is not None)
        gate.set()
        await until(lambda: handler.ids == ["waits"])
        await until(lambda: consumer.live() is None)


async def test_acks_and_commits_are_awaited_once_per_batch(kafka_bus: KafkaBus) -> None:
    await send_all(kafka_bus, [received(f"{i}", entity_on(0)) for i in range(1000)])
    before = _commits()
    handler = Handler()

    async with running(on(kafka_bus, handler)):
        await until(lambda: len(handler.seen) == 1000)

    assert _commits() - before <= 10
    assert await kafka_bus.committed(EventReceived.topic) == 1000


async def test_large_records_come_a_few_at_a_time_and_all_of_them_in_order(
    kafka_bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {"text": "x" * 900_000}
    for n in range(40):
        sent = received(f"{n}", entity_on(n % 2))
        data = replace(sent.data, fields=large)
        await send_all(kafka_bus, [sent.copy_with(data=data)])
    handler, rounds = Handler(), list[int]()
    process = Processor.process

    async def counted(self: Processor, batches: Mapping[Partition, Sequence[Record]]) -> Progress:
        rounds.append(sum(len(r.value or b"") for records in batches.values() for r in records))
        return await process(self, batches)

    monkeypatch.setattr(Processor, "process", counted)
    async with running(on(kafka_bus, handler)):
        await until(lambda: len(handler.seen) == 40)

    assert max(rounds) <= 8_000_000
    for remainder in (0, 1):
        assert [n for n in map(int, handler.ids) if n % 2 == remainder] == list(range(remainder, 40, 2))


async def test_two_replicas_share_the_partitions_and_lose_nothing_when_one_leaves(kafka_bus: KafkaBus) -> None:
    first, second = Handler(), Handler()
    async with running(on(kafka_bus, first)):
        await send_all(kafka_bus, [received(f"a{i}", entity_on(i % PARTITIONS)) for i in range(40)])
        await until(lambda: len(first.seen) == 40)
        async with running(on(kafka_bus, second, "two")):
            await send_all(kafka_bus, [received(f"b{i}", entity_on(i % PARTITIONS)) for i in range(40)])
            await until(lambda: len(first.seen) + len(second.seen) == 80)

    mine = {partition for name, partition in first.seen if name.startswith("b")}
    yours = {partition for _, partition in second.seen}
    assert mine | yours == set(range(PARTITIONS))
    assert mine & yours == set()
    assert len(mine) == len(yours) == PARTITIONS // 2


async def test_the_current_batch_is_finished_and_committed_before_partitions_move(kafka_bus: KafkaBus) -> None:
    first, second = Handler(), Handler()
    first.gate = asyncio.Event()
    async with running(on(kafka_bus, first)):
        await send_all(kafka_bus, [received(f"{i}", entity_on(i % PARTITIONS)) for i in range(40)])
        await first.entered.wait()
        joining = asyncio.create_task(_run_until(on(kafka_bus, second, "two"), second, "later"))
        await asyncio.wait([joining], timeout=4)  # longer than a heartbeat: the rebalance has begun
        assert second.seen == []

        first.gate.set()
        await until(lambda: len(first.seen) + len(second.seen) >= 40)
        await send_all(kafka_bus, [received("later", entity_on(partition)) for partition in range(PARTITIONS)])
        await asyncio.wait_for(joining, 30)

    done = [name for name in first.ids + second.ids if name != "later"]
    assert sorted(done, key=int) == [f"{i}" for i in range(40)]


@pytest.fixture
def assigned(monkeypatch: pytest.MonkeyPatch) -> list[GroupConsumer]:
    """The group members in the order of their assignments: a member once for each rebalance that it takes part in."""
    members, assign = list[GroupConsumer](), GroupConsumer.on_partitions_assigned

    async def record(self: GroupConsumer, partitions: set[TopicPartition]) -> None:
        members.append(self)
        await assign(self, partitions)

    monkeypatch.setattr(GroupConsumer, "on_partitions_assigned", record)
    return members


async def test_a_restart_of_a_static_member_moves_nothing(kafka_bus: KafkaBus, assigned: list[GroupConsumer]) -> None:
    first, before, after = Handler(), Handler(), Handler()
    async with running(on(kafka_bus, first)):
        staying = assigned[0]
        async with running(on(kafka_bus, before, "two")):
            await send_all(kafka_bus, [received(f"a{i}", entity_on(i % PARTITIONS)) for i in range(8)])
            await until(lambda: len(first.seen) + len(before.seen) == 8)
            rebalances = assigned.count(staying)

        async with running(on(kafka_bus, after, "two")):
            await send_all(kafka_bus, [received(f"b{i}", entity_on(i % PARTITIONS)) for i in range(8)])
            await until(lambda: len(first.seen) + len(before.seen) + len(after.seen) == 16)

        assert assigned.count(staying) == rebalances
    assert {partition for _, partition in after.seen} == {partition for _, partition in before.seen}


async def test_history_ends_where_no_record_reaches_the_end(kafka_bus: KafkaBus) -> None:
    engine = kafka_bus.engine()
    async with running(engine.consumer([Route(EventReceived.topic, Handler())])):
        event, name = received("1", entity_on(2)), kafka_bus.name(EventReceived.topic)
        producer = AIOKafkaProducer(bootstrap_servers=kafka_bus.settings.kafka_bootstrap, transactional_id=name)
        await producer.start()
        async with producer.transaction():  # leaves a marker behind the record, which nobody is given
            await producer.send_and_wait(name, event.encode(), event.key())
        await producer.stop()
        assert await engine.end_offset(EventReceived.topic, 2) == 2

        [(at, read)] = await engine.read(EventReceived.topic, 2, 0, 2)
        assert (at.offset, read.id) == (0, "1")
        assert await engine.read(EventReceived.topic, 2, 1, 2) == []


async def test_deleted_history_is_skipped(kafka_bus: KafkaBus) -> None:
    await send_all(kafka_bus, [received(f"{i}", entity_on(2)) for i in range(6)])
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bus.settings.kafka_bootstrap)
    await admin.start()
    tp = TopicPartition(kafka_bus.name(EventReceived.topic), 2)
    await admin.delete_records({tp: RecordsToDelete(4)})
    async with connected(kafka_bus.engine()) as engine:
        assert [e.id for _, e in await engine.read(EventReceived.topic, 2, 0, 6)] == ["4", "5"]

        await admin.delete_records({tp: RecordsToDelete(6)})

        assert await engine.read(EventReceived.topic, 2, 0, 6) == []
    await admin.close()


async def test_a_state_ahead_of_the_log_is_an_error_not_silence(kafka_bus: KafkaBus) -> None:
    async def far_ahead(topic: str, partition: int) -> int:
        return 1000

    consumer = kafka_bus.consumer([Route(EventReceived.topic, Handler())], start_at=far_ahead)
    async with running(consumer):
        failure = await consumer.failed()

    assert isinstance(failure, Misconfigured)
    assert "another cluster" in failure.detail


async def _run_until(consumer: KafkaConsumer, handler: Handler, name: str) -> None:
    async with running(consumer):
        await until(lambda: name in handler.ids, within_s=50)


async def _committed(bus: KafkaBus, offsets: int) -> bool:
    return await bus.committed(EventReceived.topic) == offsets


def _commits() -> float:
    return metric_value(metrics.COMMITS.labels(SERVICE, "done"))


async def test_a_record_that_is_handled_before_the_first_query_of_the_ends_counts_as_lag(
    kafka_bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: the ends are not queried before the record is in work (the broker was busy)
    handler, may_query = Handler(), asyncio.Event()
    handler.gate = asyncio.Event()
    query_ends = RecordPoller.query_ends

    async def late(poller: RecordPoller) -> None:
        await may_query.wait()
        await query_ends(poller)

    monkeypatch.setattr(RecordPoller, "query_ends", late)
    async with running(on(kafka_bus, handler)) as consumer:
        # when
        await send_all(kafka_bus, [received("1")])
        await handler.entered.wait()
        may_query.set()
        while_in_work = await consumer.caught_up(1.0)
        handler.gate.set()
        afterwards = await consumer.caught_up(20.0)

    # then
    assert (while_in_work, afterwards) == (False, True)
