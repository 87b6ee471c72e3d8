"""What every engine promises: order, at least once, effects before the commit, dead letters, a clean stop, bounds."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections import defaultdict
from datetime import timedelta

import pytest
from tests.engines.buses import PARTITIONS, SERVICE, Bus, computed, received, running, send_all, until

from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Event
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_shared.errors import InputRejected, RetryLater
from everloop_shared.messaging.routes import Consumer, Position, Route

DEAD = DEAD_LETTERS[SERVICE].topic


class Handler:
    """Notes what it sees and answers with one output each; `also` runs first."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.places: list[Position] = []
        self.inside = 0
        self.most_inside = 0

    async def __call__(self, event: EventReceived, at: Position) -> list[Event]:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await self.also(event)
        finally:
            self.inside -= 1
        self.seen.append(event.id)
        self.places.append(at)
        return [computed(event)]

    async def also(self, event: EventReceived) -> None:
        """For tests to override: runs before the record is noted."""


def on(bus: Bus, handler: Handler) -> Consumer:
    """A consumer with this handler on its one route."""
    return bus.consumer([Route(EventReceived.topic, handler)])


async def ids(bus: Bus) -> set[str]:
    """The ids of all outputs on the bus."""
    return {record["id"] for record in await bus.sent(FeaturesComputed.topic)}


async def test_records_of_one_key_are_handled_in_order(bus: Bus) -> None:
    handler = Handler()
    async with running(on(bus, handler)):
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
    first, second = Handler(), Handler()
    async with running(on(bus, first)):
        await send_all(bus, [received(f"{i}", entity=f"e{i}") for i in range(50)])
        await until(lambda: len(first.seen) == 50)

    async with running(on(bus, second)):
        await send_all(bus, [received("50")])
        await until(lambda: "50" in second.seen)

    assert second.seen == ["50"]
    assert await ids(bus) == {f"of-{i}" for i in range(51)}
    assert await bus.committed(EventReceived.topic) == 51


async def test_a_crash_loses_nothing_and_commits_only_what_had_its_effect(bus: Bus) -> None:
    class Crashing(Handler):
        async def also(self, event: EventReceived) -> None:
            if event.id == "3":
                raise RuntimeError("a bug")

    crashing, repaired = Crashing(), Handler()
    async with running(on(bus, crashing)) as consumer:
        await send_all(bus, [received(f"{i}") for i in range(6)])
        async with asyncio.timeout(20):
            failure = await consumer.failed()
        assert isinstance(failure, RuntimeError)
        assert "failed" in (consumer.live() or "")
    assert await bus.committed(EventReceived.topic) <= 3
    assert await ids(bus) <= {"of-0", "of-1", "of-2"}

    async with running(on(bus, repaired)):
        await until(lambda: repaired.seen[-1:] == ["5"])

    assert {"3", "4", "5"} <= set(repaired.seen)
    assert await ids(bus) == {f"of-{i}" for i in range(6)}


async def test_a_record_that_crashes_three_times_is_a_dead_letter_and_the_rest_is_handled(bus: Bus) -> None:
    class Crashing(Handler):
        async def also(self, event: EventReceived) -> None:
            if event.id == "poison":
                raise RuntimeError("a bug")

    await send_all(bus, [received("poison")])
    for _ in range(2):
        async with running(on(bus, Crashing())) as consumer, asyncio.timeout(20):
            await consumer.failed()
    handler = Crashing()
    async with running(on(bus, handler)):
        await send_all(bus, [received("good")])
        await until(lambda: handler.seen == ["good"])

    [dead_letter] = await bus.sent(DEAD)
    assert "crash_loop" in dead_letter["data"]["reason"]
    assert "RuntimeError" in dead_letter["data"]["reason"]


@pytest.mark.parametrize(
    ("value", "error", "reason"),
    [
        (b"\xff not JSON", "InputRejected", "JSON"),
        (b'{"id": "x"}', "InputRejected", "specversion"),
        (b"[" * 100_000, "InputRejected", "recursion"),
        (b'{"loop": "\\ud800"}', "InputRejected", "loop"),
        (received("x").model_copy(update={"loop": "no such/name"}).encode(), "InputRejected", "valid loop name"),
        (received("x").model_copy(update={"loop": "l" * 64}).encode(), "InputRejected", "valid loop name"),
        (None, "", ""),
    ],
)
async def test_a_record_that_does_not_decode_is_a_dead_letter_with_reason_and_bytes(
    bus: Bus, value: bytes | None, error: str, reason: str
) -> None:
    handler = Handler()
    async with running(on(bus, handler)):
        await bus.send(EventReceived.topic, b"l/a", value)
        await send_all(bus, [received("good")])

        await until(lambda: handler.seen == ["good"])

    dead_letters = await bus.sent(DEAD)
    if value is None:
        assert dead_letters == []  # a tombstone is no error
        return
    [dead_letter] = dead_letters
    data = dead_letter["data"]
    assert (data["topic"], data["offset"], data["error"]) == (EventReceived.topic.name, 0, error)
    assert data["reason"] != ""
    assert b64decode(data["value"]) == value
    assert b64decode(data["key"]) == b"l/a"


async def test_a_record_that_the_handler_rejects_is_a_dead_letter_and_the_rest_is_handled(bus: Bus) -> None:
    class Picky(Handler):
        async def also(self, event: EventReceived) -> None:
            if event.id == "bad":
                raise InputRejected("x must be even")

    handler = Picky()
    async with running(on(bus, handler)):
        await send_all(bus, [received("before"), received("bad"), received("after")])
        await until(lambda: handler.seen == ["before", "after"])
        await until(lambda: _is_committed(bus, 3))

    [dead_letter] = await bus.sent(DEAD)
    assert dead_letter["causationid"] == "bad"
    assert dead_letter["data"]["reason"] == "x must be even"
    assert await ids(bus) == {"of-before", "of-after"}


async def test_a_record_that_is_too_early_is_retried_and_keeps_its_place(bus: Bus) -> None:
    class Waiting(Handler):
        tries = 0

        async def also(self, event: EventReceived) -> None:
            if event.id == "early":
                self.tries += 1
                if self.tries < 4:
                    raise RetryLater("not known yet")

    handler = Waiting()
    async with running(on(bus, handler)):
        await send_all(bus, [received("early"), received("next"), received("last")])

        await until(lambda: len(handler.seen) == 3)

    assert handler.seen == ["early", "next", "last"]
    assert handler.tries == 4


async def test_a_record_that_stays_too_early_is_a_dead_letter(bus: Bus) -> None:
    class Impatient(RetryLater):
        give_up_after = timedelta(milliseconds=200).total_seconds()

    class Waiting(Handler):
        async def also(self, event: EventReceived) -> None:
            if event.id == "early":
                raise Impatient("never known")

    handler = Waiting()
    async with running(on(bus, handler)):
        await send_all(bus, [received("early"), received("next")])

        await until(lambda: handler.seen == ["next"])

    [dead_letter] = await bus.sent(DEAD)
    assert dead_letter["data"]["reason"] == "never known"


@pytest.mark.parametrize(
    "kind_of_error", [OverflowError, ValueError, TypeError, KeyError, RecursionError, AssertionError]
)
async def test_an_error_that_a_record_can_cause_concerns_that_record_only(
    bus: Bus, kind_of_error: type[Exception]
) -> None:
    class Failing(Handler):
        async def also(self, event: EventReceived) -> None:
            if event.id == "poison":
                raise kind_of_error("not finite: -inf")

    handler = Failing()
    async with running(on(bus, handler)) as consumer:
        await send_all(bus, [received("before"), received("poison"), received("after")])
        await until(lambda: handler.seen[-1:] == ["after"])
        assert consumer.live() is None

    [dead_letter] = await bus.sent(DEAD)
    assert dead_letter["data"]["error"] == kind_of_error.__name__
    assert "not finite: -inf" in dead_letter["data"]["reason"]
    assert await ids(bus) == {"of-before", "of-after"}


async def test_an_output_that_cannot_be_encoded_concerns_its_record_only(bus: Bus) -> None:
    class Mute(Handler):
        async def __call__(self, event: EventReceived, at: Position) -> list[Event]:
            [answer] = await super().__call__(event, at)
            return [answer.model_copy(update={"loop": "\ud800"}) if event.id == "poison" else answer]

    handler = Mute()
    async with running(on(bus, handler)):
        await send_all(bus, [received("poison"), received("after")])
        await until(lambda: handler.seen[-1:] == ["after"])

    [dead_letter] = await bus.sent(DEAD)
    assert dead_letter["causationid"] == "poison"
    assert await ids(bus) == {"of-after"}


async def test_many_records_of_loops_that_stay_unknown_delay_a_partition_once(bus: Bus) -> None:
    class Unknown(RetryLater):
        give_up_after = 0.5

    class Knowing(Handler):
        async def also(self, event: EventReceived) -> None:
            if event.loop != "l":
                raise Unknown(f"{event.loop} is not applied")

    handler, others = Knowing(), [received(f"{n}").model_copy(update={"loop": f"other-{n % 60}"}) for n in range(120)]
    async with running(on(bus, handler)):
        await send_all(bus, [e.model_copy(update={"subject": "a"}) for e in others])
        for _ in range(PARTITIONS):
            await send_all(bus, [received(f"after-{i}", entity=f"e{i}") for i in range(PARTITIONS * 4)])
        await until(lambda: len(set(handler.seen)) == PARTITIONS * 4, within_s=8)
        await until(lambda: _has_dead_letters(bus, 120))


async def test_a_stop_finishes_the_current_record(bus: Bus) -> None:
    class Gated(Handler):
        def __init__(self) -> None:
            super().__init__()
            self.entered, self.gate = asyncio.Event(), asyncio.Event()

        async def also(self, event: EventReceived) -> None:
            self.entered.set()
            await self.gate.wait()

    handler = Gated()
    consumer = on(bus, handler)
    await send_all(bus, [received("slow")])
    async with running(consumer):
        await asyncio.wait_for(handler.entered.wait(), 20)
        stopping = asyncio.create_task(consumer.stop())
        await asyncio.wait([stopping], timeout=0.1)
        assert not stopping.done()

        handler.gate.set()
        await asyncio.wait_for(stopping, 10)

    assert await ids(bus) == {"of-slow"}
    assert await bus.committed(EventReceived.topic) == 1


async def test_a_slow_handler_gets_one_record_per_partition_at_a_time(bus: Bus) -> None:
    class Slow(Handler):
        async def also(self, event: EventReceived) -> None:
            await asyncio.sleep(0)

    handler = Slow()
    async with running(on(bus, handler)):
        await send_all(bus, [received(f"{i}", entity=f"e{i}") for i in range(200)])

        await until(lambda: len(handler.seen) == 200)

    assert 1 <= handler.most_inside <= PARTITIONS


async def test_outputs_carry_the_trace_of_their_cause(bus: Bus) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with running(on(bus, Handler())):
        await send_all(bus, [received("traced", traceparent=trace)])

        await until(lambda: _has_outputs(bus, 1))

    [output] = await bus.sent(FeaturesComputed.topic)
    assert output["traceparent"] == trace


async def _has_outputs(bus: Bus, number: int) -> bool:
    return len(await bus.sent(FeaturesComputed.topic)) >= number


async def _is_committed(bus: Bus, offsets: int) -> bool:
    return await bus.committed(EventReceived.topic) == offsets


async def _has_dead_letters(bus: Bus, count: int) -> bool:
    return len({dead_letter["id"] for dead_letter in await bus.sent(DEAD)}) == count
