"""What every engine guarantees: order, at least once, effects before the commit, a clean stop, bounds."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from tests.engines.buses import PARTITIONS, Bus, received, running, send_all, until
from tests.engines.recording import RecordingHandler, consumer_of, output_ids

from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived


async def test_records_of_one_key_are_handled_in_order(bus: Bus) -> None:
    handler = RecordingHandler()
    async with running(consumer_of(bus, handler)):
        await send_all(bus, [received(f"{i}", entity=f"e{i % 7}") for i in range(140)])

        await until(lambda: len(handler.seen) == 140)

    by_key = defaultdict(list)
    for name in handler.seen:
        by_key[int(name) % 7].append(int(name))
    assert all(numbers == sorted(numbers) for numbers in by_key.values())
    assert {at.topic for at in handler.places} == {EventReceived.topic.name}
    assert len({(at.partition, at.offset) for at in handler.places}) == 140


async def test_a_clean_stop_publishes_outputs_and_commits_offsets_and_nothing_is_handled_twice(
    bus: Bus,
) -> None:
    first, second = RecordingHandler(), RecordingHandler()
    async with running(consumer_of(bus, first)):
        await send_all(bus, [received(f"{i}", entity=f"e{i}") for i in range(50)])
        await until(lambda: len(first.seen) == 50)

    async with running(consumer_of(bus, second)):
        await send_all(bus, [received("50")])
        await until(lambda: "50" in second.seen)

    assert second.seen == ["50"]
    assert await output_ids(bus) == {f"of-{i}" for i in range(51)}
    assert await bus.committed(EventReceived.topic) == 51


async def test_a_crash_loses_nothing_and_commits_only_what_had_its_effect(bus: Bus) -> None:
    class Crashing(RecordingHandler):
        async def also(self, event: EventReceived) -> None:
            if event.id == "3":
                raise RuntimeError("a bug")

    crashing, repaired = Crashing(), RecordingHandler()
    async with running(consumer_of(bus, crashing)) as consumer:
        await send_all(bus, [received(f"{i}") for i in range(6)])
        async with asyncio.timeout(20):
            failure = await consumer.failed()
        assert isinstance(failure, RuntimeError)
        assert "failed" in (consumer.live() or "")
    assert await bus.committed(EventReceived.topic) <= 3
    assert await output_ids(bus) <= {"of-0", "of-1", "of-2"}

    async with running(consumer_of(bus, repaired)):
        await until(lambda: repaired.seen[-1:] == ["5"])

    assert {"3", "4", "5"} <= set(repaired.seen)
    assert await output_ids(bus) == {f"of-{i}" for i in range(6)}


async def test_a_stop_finishes_the_current_record(bus: Bus) -> None:
    class Gated(RecordingHandler):
        def __init__(self) -> None:
            super().__init__()
            self.entered, self.gate = asyncio.Event(), asyncio.Event()

        async def also(self, event: EventReceived) -> None:
            self.entered.set()
            await self.gate.wait()

    handler = Gated()
    consumer = consumer_of(bus, handler)
    await send_all(bus, [received("slow")])
    async with running(consumer):
        await asyncio.wait_for(handler.entered.wait(), 20)
        stopping = asyncio.create_task(consumer.stop())
        await asyncio.wait([stopping], timeout=0.1)
        assert not stopping.done()

        handler.gate.set()
        await asyncio.wait_for(stopping, 10)

    assert await output_ids(bus) == {"of-slow"}
    assert await bus.committed(EventReceived.topic) == 1


async def test_a_slow_handler_gets_one_record_per_partition_at_a_time(bus: Bus) -> None:
    class Slow(RecordingHandler):
        async def also(self, event: EventReceived) -> None:
            await asyncio.sleep(0)

    handler = Slow()
    async with running(consumer_of(bus, handler)):
        await send_all(bus, [received(f"{i}", entity=f"e{i}") for i in range(200)])

        await until(lambda: len(handler.seen) == 200)

    assert 1 <= handler.most_inside <= PARTITIONS


async def test_outputs_carry_the_trace_of_their_cause(bus: Bus) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with running(consumer_of(bus, RecordingHandler())):
        await send_all(bus, [received("traced", traceparent=trace)])

        await until(lambda: _has_outputs(bus, 1))

    [output] = await bus.sent(FeaturesComputed.topic)
    assert output["traceparent"] == trace


async def _has_outputs(bus: Bus, number: int) -> bool:
    return len(await bus.sent(FeaturesComputed.topic)) >= number


async def test_every_event_carries_the_content_type_that_readers_of_cloudevents_expect(bus: Bus) -> None:
    handler = RecordingHandler()
    async with running(consumer_of(bus, handler)):
        await bus.send(EventReceived.topic, b"l/a", b"no event")
        await send_all(bus, [received(f"{i}") for i in range(3)])
        await until(lambda: len(handler.seen) == 3)

    headers = await bus.sent_headers(FeaturesComputed.topic)
    assert headers == [{"content-type": b"application/cloudevents+json; charset=UTF-8"}] * 3
    assert await bus.sent_headers(DEAD_LETTERS["feature"].topic) == headers[:1]
