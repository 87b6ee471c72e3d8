"""Records that cannot be processed: retries, dead letters and crashes, on every engine."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from datetime import timedelta

import pytest
from tests.engines.buses import PARTITIONS, SERVICE, Bus, received, running, send_all, until
from tests.engines.recording import RecordingHandler, consumer_of, output_ids

from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived
from everloop_shared.errors import InputRejected, RetryLater
from everloop_shared.messaging.routes import Position

DEAD = DEAD_LETTERS[SERVICE].topic


async def test_a_record_that_crashes_three_times_is_a_dead_letter_and_the_rest_is_handled(bus: Bus) -> None:
    class Crashing(RecordingHandler):
        async def also(self, event: EventReceived) -> None:
            if event.id == "poison":
                raise RuntimeError("a bug")

    await send_all(bus, [received("poison")])
    for _ in range(2):
        async with running(consumer_of(bus, Crashing())) as consumer, asyncio.timeout(20):
            await consumer.failed()
    handler = Crashing()
    async with running(consumer_of(bus, handler)):
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
        (received("x").copy_with(loop="no such/name").encode(), "InputRejected", "valid loop name"),
        (received("x").copy_with(loop="l" * 64).encode(), "InputRejected", "valid loop name"),
        (None, "", ""),
    ],
)
async def test_a_record_that_does_not_decode_is_a_dead_letter_with_reason_and_bytes(
    bus: Bus, value: bytes | None, error: str, reason: str
) -> None:
    handler = RecordingHandler()
    async with running(consumer_of(bus, handler)):
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
    class Picky(RecordingHandler):
        async def also(self, event: EventReceived) -> None:
            if event.id == "bad":
                raise InputRejected("x must be even")

    handler = Picky()
    async with running(consumer_of(bus, handler)):
        await send_all(bus, [received("before")])
        await until(lambda: handler.seen == ["before"])  # in one batch with the bad one it would be handled twice
        await send_all(bus, [received("bad"), received("after")])
        await until(lambda: handler.seen == ["before", "after"])
        await until(lambda: _is_committed(bus, 3))

    [dead_letter] = await bus.sent(DEAD)
    assert dead_letter["causationid"] == "bad"
    assert dead_letter["data"]["reason"] == "x must be even"
    assert await output_ids(bus) == {"of-before", "of-after"}


async def test_a_record_that_is_too_early_is_retried_and_keeps_its_place(bus: Bus) -> None:
    class Waiting(RecordingHandler):
        tries = 0

        async def also(self, event: EventReceived) -> None:
            if event.id == "early":
                self.tries += 1
                if self.tries < 4:
                    raise RetryLater("not known yet")

    handler = Waiting()
    async with running(consumer_of(bus, handler)):
        await send_all(bus, [received("early"), received("next"), received("last")])

        await until(lambda: len(handler.seen) == 3)

    assert handler.seen == ["early", "next", "last"]
    assert handler.tries == 4


async def test_a_record_that_stays_too_early_is_a_dead_letter(bus: Bus) -> None:
    class Impatient(RetryLater):
        give_up_after = timedelta(milliseconds=200).total_seconds()

    class Waiting(RecordingHandler):
        async def also(self, event: EventReceived) -> None:
            if event.id == "early":
                raise Impatient("never known")

    handler = Waiting()
    async with running(consumer_of(bus, handler)):
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
    class Failing(RecordingHandler):
        async def also(self, event: EventReceived) -> None:
            if event.id == "poison":
                raise kind_of_error("not finite: -inf")

    handler = Failing()
    async with running(consumer_of(bus, handler)) as consumer:
        await send_all(bus, [received("before"), received("poison"), received("after")])
        await until(lambda: handler.seen[-1:] == ["after"])
        assert consumer.live() is None

    [dead_letter] = await bus.sent(DEAD)
    assert dead_letter["data"]["error"] == kind_of_error.__name__
    assert "not finite: -inf" in dead_letter["data"]["reason"]
    assert await output_ids(bus) == {"of-before", "of-after"}


async def test_an_output_that_cannot_be_encoded_concerns_its_record_only(bus: Bus) -> None:
    class Mute(RecordingHandler):
        async def __call__(self, event: EventReceived, at: Position) -> list[Event]:
            [answer] = await super().__call__(event, at)
            return [answer.copy_with(loop="\ud800") if event.id == "poison" else answer]

    handler = Mute()
    async with running(consumer_of(bus, handler)):
        await send_all(bus, [received("poison"), received("after")])
        await until(lambda: handler.seen[-1:] == ["after"])

    [dead_letter] = await bus.sent(DEAD)
    assert dead_letter["causationid"] == "poison"
    assert await output_ids(bus) == {"of-after"}


async def test_many_records_of_loops_that_stay_unknown_delay_a_partition_once(bus: Bus) -> None:
    class Unknown(RetryLater):
        give_up_after = 0.5

    class Knowing(RecordingHandler):
        async def also(self, event: EventReceived) -> None:
            if event.loop != "l":
                raise Unknown(f"{event.loop} is not applied")

    handler, others = Knowing(), [received(f"{n}").copy_with(loop=f"other-{n % 60}") for n in range(120)]
    async with running(consumer_of(bus, handler)):
        await send_all(bus, [e.copy_with(subject="a") for e in others])
        for _ in range(PARTITIONS):
            await send_all(bus, [received(f"after-{i}", entity=f"e{i}") for i in range(PARTITIONS * 4)])
        await until(lambda: len(set(handler.seen)) == PARTITIONS * 4, within_s=8)
        await until(lambda: _has_dead_letters(bus, 120))


async def _is_committed(bus: Bus, offsets: int) -> bool:
    return await bus.committed(EventReceived.topic) == offsets


async def _has_dead_letters(bus: Bus, count: int) -> bool:
    return len({dead_letter["id"] for dead_letter in await bus.sent(DEAD)}) == count
