"""Broadcasts reach every process whole before it is ready; any part of the log can be read again."""

from __future__ import annotations

import asyncio

import pytest
from tests.engines.buses import BUSES, PARTITIONS, SERVICE, Bus, received, running, send_all, until

from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived
from everloop_schemas.serving import ObservationReceived
from everloop_shared.messaging.routes import Position, Route, connected

pytestmark = pytest.mark.parametrize("kind", BUSES, indirect=True)

DEAD = DEAD_LETTERS[SERVICE].topic


class Recorder:
    """Records the ids that it consumes."""

    def __init__(self) -> None:
        self.consumed: list[str] = []

    async def __call__(self, event: EventReceived, at: Position) -> list[Event]:
        self.consumed.append(event.id)
        return []


def routes_to(recorder: Recorder) -> list[Route]:
    """A table with one broadcast."""
    return [Route(EventReceived.topic, recorder, broadcast=True)]


async def test_every_process_has_consumed_the_whole_broadcast_when_it_is_ready(bus: Bus) -> None:
    await send_all(bus, [received(f"{i}", entity=f"e{i}") for i in range(1200)])
    first, second = Recorder(), Recorder()

    async with running(bus.consumer(routes_to(first))) as consumer, running(bus.consumer(routes_to(second))):
        assert consumer.ready() is None
        assert len(first.consumed) == len(second.consumed) == 1200
        await send_all(bus, [received("late")])
        await until(lambda: first.consumed[-1] == second.consumed[-1] == "late")


async def test_a_broadcast_starts_again_from_the_beginning_with_every_process(bus: Bus) -> None:
    await send_all(bus, [received("old")])
    first, second = Recorder(), Recorder()
    async with running(bus.consumer(routes_to(first))):
        pass

    async with running(bus.consumer(routes_to(second))):
        pass

    assert first.consumed == second.consumed == ["old"]


async def test_a_broadcast_with_start_at_continues_there(bus: Bus) -> None:
    await send_all(bus, [received(f"{i}") for i in range(5)])
    recorder = Recorder()

    async def start_at(topic: str, partition: int) -> int:
        return 3

    route = Route(EventReceived.topic, recorder, broadcast=True, start_at=start_at)
    async with running(bus.consumer([route])):
        pass

    assert recorder.consumed == ["3", "4"]


async def test_a_broadcast_handler_that_crashes_ends_the_consumer(bus: Bus) -> None:
    async def broken(event: EventReceived, at: Position) -> list[Event]:
        raise RuntimeError("a bug")

    async with running(bus.consumer([Route(EventReceived.topic, broken, broadcast=True)])) as consumer:
        await send_all(bus, [received("1")])

        assert isinstance(await consumer.failed(), RuntimeError)


async def test_a_broadcast_record_that_fails_is_a_dead_letter_and_the_rest_is_handled(
    bus: Bus,
) -> None:
    class Failing(Recorder):
        async def __call__(self, event: EventReceived, at: Position) -> list[Event]:
            if event.id == "poison":
                raise OverflowError("math range error")
            return await super().__call__(event, at)

    recorder = Failing()
    await send_all(bus, [received("1"), received("poison"), received("2")])
    async with running(bus.consumer(routes_to(recorder))):
        await send_all(bus, [received("3")])
        await until(lambda: recorder.consumed == ["1", "2", "3"])

    [dead_letter] = await bus.sent(DEAD)
    assert dead_letter["causationid"] == "poison"


async def test_a_broadcast_record_that_crashes_every_process_is_a_dead_letter_at_the_third_crash(bus: Bus) -> None:
    class Failing(Recorder):
        async def __call__(self, event: EventReceived, at: Position) -> list[Event]:
            if event.id == "poison":
                raise RuntimeError("a bug")
            return await super().__call__(event, at)

    await send_all(bus, [received("poison"), received("good")])
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a bug"):
            async with running(bus.consumer(routes_to(Failing()))):
                pass
    recorder = Failing()
    for _ in range(2):
        async with running(bus.consumer(routes_to(recorder))):
            await until(lambda: recorder.consumed[-1:] == ["good"])

    assert recorder.consumed == ["good", "good"]
    assert {dead_letter["data"]["reason"] for dead_letter in await bus.sent(DEAD)} == {
        "crash_loop: crashed 3 times: RuntimeError('a bug')"
    }


async def test_history_is_read_by_offsets_in_order(bus: Bus) -> None:
    events = [received(f"{i}", entity="same") for i in range(30)]
    await send_all(bus, events)
    async with connected(bus.engine()) as engine:
        partition = engine.partition_for(EventReceived.topic, events[0].key())

        read = await engine.read(EventReceived.topic, partition, 10, 20)

        assert [event.id for _, event in read] == [f"{i}" for i in range(10, 20)]
        assert [at.offset for at, _ in read] == list(range(10, 20))
        assert await engine.end_offset(EventReceived.topic, partition) == 30
        assert await engine.begin_offset(EventReceived.topic, partition) == 0
        assert len(await engine.read(EventReceived.topic, partition, 0, 1_000_000)) == 30
        assert await engine.read(EventReceived.topic, partition, 30, 40) == []


async def test_history_leaves_out_records_that_do_not_decode(bus: Bus) -> None:
    await send_all(bus, [received("1")])
    await bus.send(EventReceived.topic, b"l/a", b"garbage")
    await bus.send(EventReceived.topic, b"l/a", None)
    await send_all(bus, [received("2")])
    async with connected(bus.engine()) as engine:
        partition = engine.partition_for(EventReceived.topic, b"l/a")

        read = await engine.read(EventReceived.topic, partition, 0, 100)
        records = await engine.read_records(EventReceived.topic, partition, 0, 100)

    assert [event.id for _, event in read] == ["1", "2"]
    assert [record.at.offset for record in records] == [0, 1, 2, 3]
    assert [record.value for record in records[1:3]] == [b"garbage", None]


async def test_an_engine_publishes_to_the_partition_that_partition_for_gives(bus: Bus) -> None:
    events = [received(f"{i}", entity=f"entity-{i}") for i in range(40)]
    async with connected(bus.engine()) as engine:
        await engine.publish(events)

        found = {}
        for partition in range(PARTITIONS):
            for at, event in await engine.read(EventReceived.topic, partition, 0, 1000):
                found[event.id] = at.partition

        assert found == {e.id: engine.partition_for(EventReceived.topic, e.key()) for e in events}


async def test_the_default_partitioner_of_other_clients_agrees(bus: Bus) -> None:
    events = [received(f"{i}", entity=f"entity-{i}") for i in range(40)]
    await send_all(bus, events)
    async with connected(bus.engine()) as engine:
        for event in events:
            partition = engine.partition_for(EventReceived.topic, event.key())

            assert event.id in {e.id for _, e in await engine.read(EventReceived.topic, partition, 0, 100)}


async def test_catching_up_waits_until_all_records_of_before_are_handled(bus: Bus) -> None:
    group, broadcast = Recorder(), Recorder()
    routes = [Route(EventReceived.topic, group), Route(ObservationReceived.topic, broadcast, broadcast=True)]
    async with running(bus.consumer(routes)) as consumer:
        await send_all(bus, [received(f"{i}", entity=f"e{i}") for i in range(600)])

        assert await consumer.caught_up(20.0)

        assert len(group.consumed) == 600


async def test_catching_up_waits_only_within_a_limit(bus: Bus) -> None:
    class Busy(Recorder):
        async def __call__(self, event: EventReceived, at: Position) -> list[Event]:
            await released.wait()
            return await super().__call__(event, at)

    released = asyncio.Event()
    async with running(bus.consumer([Route(EventReceived.topic, Busy())])) as consumer:
        await send_all(bus, [received("1")])

        caught_up = await consumer.caught_up(0.3)
        released.set()

    assert not caught_up


async def test_the_log_of_a_service_that_has_not_started_yet_is_empty(bus: Bus) -> None:
    async with connected(bus.engine()) as engine:
        assert await engine.begin_offset(ObservationReceived.topic, 0) == 0
        assert await engine.end_offset(ObservationReceived.topic, 0) == 0
