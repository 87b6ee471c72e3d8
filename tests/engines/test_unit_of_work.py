"""State, events and offsets in one transaction: whatever is repeated or killed, each effect happens once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sql
from tests.databases import database_url
from tests.engines.buses import BUSES, SERVICE, Bus, computed, received, running, send_all, until

from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Event
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_shared.database import Database
from everloop_shared.errors import InputRejected, Unavailable
from everloop_shared.messaging.routes import Consumer, Position, Publisher, Route
from everloop_shared.outbox import SqlUnitOfWork, add_kernel_tables

pytestmark = pytest.mark.parametrize("kind", BUSES, indirect=True)
METADATA = sql.MetaData()
SEEN = sql.Table("seen", METADATA, sql.Column("n", sql.Integer, primary_key=True), sql.Column("id", sql.String))
add_kernel_tables(METADATA)


class Recorder:
    """Writes each id into the open unit of work; a second time is a second row."""

    def __init__(self, unit: SqlUnitOfWork, poison: Exception | None = None) -> None:
        self.unit = unit
        self.poison = poison
        self.calls = 0

    async def __call__(self, event: EventReceived, at: Position) -> list[Event]:
        self.calls += 1
        await self.unit.connection.execute(sql.insert(SEEN).values(id=event.id))
        if event.id == "poison" and self.poison:
            raise self.poison
        return [computed(event)]


@pytest.fixture
async def database(tmp_path: Path, databases: object) -> AsyncIterator[Database]:
    """A database with the kernel's tables and one of the test's."""
    async with Database(database_url(tmp_path), metadata=METADATA, schema="state") as opened:
        yield opened


async def rows(database: Database) -> list[str]:
    """The ids that were written, in order."""
    async with database.reading() as session:
        return list(await session.scalars(sql.select(SEEN.c.id).order_by(SEEN.c.n)))


async def outputs(bus: Bus) -> list[str]:
    """The ids of the outputs on the bus."""
    return [record["id"] for record in await bus.sent(FeaturesComputed.topic)]


def on(bus: Bus, recorder: Recorder, unit: SqlUnitOfWork, **more: object) -> Consumer:
    """A consumer that records."""
    return bus.consumer([Route(EventReceived.topic, recorder)], unit_of_work=unit, **more)  # type: ignore[arg-type]


async def test_a_replayed_record_changes_nothing(bus: Bus, database: Database) -> None:
    async def from_the_start(topic: str, partition: int) -> int:
        return 0

    unit = SqlUnitOfWork(database)
    await send_all(bus, [received(f"{i}") for i in range(5)])
    async with running(on(bus, Recorder(unit), unit)):
        await until(lambda: _count(database, 5))

    again = Recorder(unit)
    async with running(on(bus, again, unit, start_at=from_the_start)):
        await send_all(bus, [received("5")])
        await until(lambda: _count(database, 6))

    assert again.calls == 1
    assert await rows(database) == [f"{i}" for i in range(6)]
    assert sorted(await outputs(bus)) == [f"of-{i}" for i in range(6)]


async def test_a_kill_between_commit_and_relay_loses_nothing_and_repeats_nothing(bus: Bus, database: Database) -> None:
    class Killed(SqlUnitOfWork):
        """Dies right after the first commit with events in it."""

        async def relay(self, publisher: Publisher) -> None:
            if await _count(database, 1):
                raise ZeroDivisionError("killed here")

    killed = Killed(database)
    async with running(on(bus, Recorder(killed), killed)) as consumer:
        await send_all(bus, [received("1")])
        assert isinstance(await consumer.failed(), ZeroDivisionError)
    assert await outputs(bus) == []

    unit = SqlUnitOfWork(database)
    after = Recorder(unit)
    async with running(on(bus, after, unit)):
        await until(lambda: _sent(bus, 1))
        await send_all(bus, [received("2")])
        await until(lambda: _sent(bus, 2))

    assert await rows(database) == ["1", "2"]
    assert sorted(await outputs(bus)) == ["of-1", "of-2"]
    assert after.calls == 1


async def test_a_record_that_fails_the_batch_is_a_dead_letter_and_leaves_no_state(bus: Bus, database: Database) -> None:
    unit = SqlUnitOfWork(database)
    await send_all(bus, [received("1"), received("poison"), received("2")])

    async with running(on(bus, Recorder(unit, InputRejected("no good")), unit)):
        await until(lambda: _count(database, 2))
        await until(lambda: _sent(bus, 2))

    assert await rows(database) == ["1", "2"]
    [dead_letter] = await bus.sent(DEAD_LETTERS[SERVICE].topic)
    assert dead_letter["data"]["reason"] == "no good"


@pytest.mark.parametrize("poison", [OverflowError("math range error"), TypeError("no number")])
async def test_an_error_that_a_record_can_cause_does_not_affect_the_batch(
    bus: Bus, database: Database, poison: Exception
) -> None:
    unit = SqlUnitOfWork(database)
    recorder = Recorder(unit, poison)
    good = [received(f"{n}") for n in range(100)]
    await send_all(bus, [*good[:70], received("poison"), *good[70:]])

    async with running(on(bus, recorder, unit)):
        await until(lambda: _sent(bus, 100))

    assert await rows(database) == [f"{n}" for n in range(100)]
    [dead_letter] = await bus.sent(DEAD_LETTERS[SERVICE].topic)
    assert dead_letter["causationid"] == "poison"
    assert recorder.calls < 400  # halves of the batch, not each record in a transaction of its own


async def test_an_error_while_a_unit_records_concerns_the_record_that_causes_it(bus: Bus, database: Database) -> None:
    class Folding(SqlUnitOfWork):
        async def record(self, events: Sequence[Event], offsets: dict[tuple[str, int], int]) -> None:
            if any(e.id == "of-poison" for e in events):
                raise FloatingPointError("not finite")
            await super().record(events, offsets)

    unit = Folding(database)
    await send_all(bus, [received("1"), received("poison"), received("2")])
    async with running(on(bus, Recorder(unit), unit)):
        await until(lambda: _sent(bus, 2))

    assert await rows(database) == ["1", "2"]
    [dead_letter] = await bus.sent(DEAD_LETTERS[SERVICE].topic)
    assert dead_letter["data"]["error"] == "FloatingPointError"


async def test_a_value_that_the_database_cannot_store_is_a_dead_letter(bus: Bus, database: Database) -> None:
    class TooLong(Recorder):
        async def __call__(self, event: EventReceived, at: Position) -> list[Event]:
            row = {"n": 10**30, "id": event.id} if event.id == "poison" else {"id": event.id}
            await self.unit.connection.execute(sql.insert(SEEN).values(row))
            return [computed(event)]

    unit = SqlUnitOfWork(database)
    await send_all(bus, [received("1"), received("poison"), received("2")])
    async with running(on(bus, TooLong(unit), unit)):
        await until(lambda: _sent(bus, 2))

    assert await rows(database) == ["1", "2"]
    [dead_letter] = await bus.sent(DEAD_LETTERS[SERVICE].topic)
    assert dead_letter["causationid"] == "poison"


async def test_a_database_that_is_away_is_waited_for(bus: Bus, database: Database) -> None:
    class Flaky(SqlUnitOfWork):
        tries = 0

        async def __aenter__(self) -> Flaky:
            self.tries += 1
            if self.tries < 5:
                raise Unavailable("the database is unavailable: locked")
            return await super().__aenter__()

    unit = Flaky(database)
    async with running(on(bus, Recorder(unit), unit)):
        await send_all(bus, [received("1")])
        await until(lambda: _sent(bus, 1))

    assert await rows(database) == ["1"]


async def test_a_replica_that_lost_its_partition_handles_no_record_again(bus: Bus, database: Database) -> None:
    gate = asyncio.Event()

    class Late(SqlUnitOfWork):
        """Is held up before its transaction begins, while another replica does the work."""

        async def __aenter__(self) -> Late:
            await gate.wait()
            return await super().__aenter__()

    late, other = Late(database), SqlUnitOfWork(database)
    recorder = Recorder(late)
    await send_all(bus, [received("1")])
    async with running(on(bus, recorder, late)):
        partition = bus.engine().partition_for(EventReceived.topic, received("1").key())
        async with other:
            await other.record([], {(EventReceived.topic.name, partition): 1})
        gate.set()
        await send_all(bus, [received("2")])
        await until(lambda: _count(database, 1))

    assert await rows(database) == ["2"]
    assert recorder.calls == 1


async def _count(database: Database, number: int) -> bool:
    return len(await rows(database)) >= number


async def _sent(bus: Bus, number: int) -> bool:
    return len(await outputs(bus)) >= number
