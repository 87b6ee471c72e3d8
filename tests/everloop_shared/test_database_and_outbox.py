"""Transactions of a service: one at a time, all or nothing, readers beside writers, events in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sql
from tests.builders import events
from tests.tasks import cancel

from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived
from everloop_shared.database import Database, sqlite_url
from everloop_shared.errors import InputRejected, Misconfigured, Unavailable
from everloop_shared.outbox import SqlUnitOfWork, add_kernel_tables

METADATA = sql.MetaData()
add_kernel_tables(METADATA)
NOTES = sql.Table("notes", METADATA, sql.Column("n", sql.Integer, primary_key=True))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Publisher:
    """Takes events, or is away."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.away = False

    async def publish(self, events: Sequence[Event]) -> None:
        """Take them."""
        if self.away:
            raise Unavailable("gone")
        self.events += [event.id for event in events]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A fresh file in a folder that is not there yet."""
    async with Database(sqlite_url(tmp_path / "new" / "state.db"), metadata=METADATA) as opened:
        yield opened


def event(name: str, fields: dict[str, str] | None = None) -> EventReceived:
    """An event."""
    return events.observation(name, fields or {}, "a", loop="l")


async def notes(database: Database) -> list[int]:
    """What is committed."""
    async with database.reading() as session:
        return list(await session.scalars(sql.select(NOTES.c.n)))


async def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    unit, publisher = SqlUnitOfWork(database), Publisher()

    with pytest.raises(KeyError):
        await _write(unit, 1, error=KeyError("x"))
    await unit.relay(publisher)

    assert await notes(database) == []
    assert await unit.offsets() == {}
    assert publisher.events == []


async def _write(unit: SqlUnitOfWork, n: int, error: Exception | None = None) -> None:
    async with unit:
        await unit.connection.execute(sql.insert(NOTES).values(n=n))
        await unit.record([event(f"{n}")], {("t", 0): n})
        if error:
            raise error


async def test_events_are_published_once_in_the_order_of_their_commits(database: Database) -> None:
    unit, publisher = SqlUnitOfWork(database), Publisher()
    for n in range(1200):
        async with unit:
            await unit.record([event(f"{n}")], {})

    await asyncio.gather(*(unit.relay(publisher) for _ in range(3)))

    assert publisher.events == [f"{n}" for n in range(1200)]


class SlowToFail:
    """Says that it was asked, and fails once it is told to."""

    def __init__(self) -> None:
        self.asked, self.fail = asyncio.Event(), asyncio.Event()

    async def publish(self, events: Sequence[Event]) -> None:
        """Fail, in the end."""
        self.asked.set()
        await self.fail.wait()
        raise Unavailable("gone")


async def test_a_relay_beside_one_that_fails_does_not_say_that_all_is_published(database: Database) -> None:
    unit, publisher = SqlUnitOfWork(database), SlowToFail()
    await _write(unit, 1)
    first = asyncio.create_task(unit.relay(publisher))
    await publisher.asked.wait()

    second = asyncio.create_task(unit.relay(publisher))
    await asyncio.sleep(0)
    publisher.fail.set()
    results = await asyncio.gather(first, second, return_exceptions=True)

    assert [type(result) for result in results] == [Unavailable, Unavailable]


async def test_events_that_could_not_be_published_are_left_to_the_relay_loop(database: Database) -> None:
    unit, publisher = SqlUnitOfWork(database), Publisher()
    publisher.away = True
    await _write(unit, 1)
    with pytest.raises(Unavailable):
        await unit.relay(publisher)
    publisher.away = False

    relaying = asyncio.create_task(unit.relay_loop(publisher))
    async with asyncio.timeout(10):
        while not publisher.events:
            await asyncio.sleep(0)
    await cancel(relaying)

    assert publisher.events == ["1"]


async def test_large_events_are_relayed_a_few_at_a_time(database: Database) -> None:
    unit, publisher, sizes = SqlUnitOfWork(database), Publisher(), list[int]()
    async with unit:
        await unit.record([event(f"{n}", {"text": "x" * 3_000_000}) for n in range(7)] + [event("last")], {})

    async def publish(events: Sequence[Event]) -> None:
        sizes.append(sum(len(e.encode()) for e in events))
        publisher.events += [e.id for e in events]

    publisher.publish = publish  # type: ignore[method-assign]
    await unit.relay(publisher)

    assert publisher.events == [*(f"{n}" for n in range(7)), "last"]
    assert max(sizes) <= 8_000_000
    assert len(sizes) == 4


async def test_a_new_process_relays_the_events_of_the_last_one(database: Database) -> None:
    publisher = Publisher()
    await _write(SqlUnitOfWork(database), 1)

    await SqlUnitOfWork(database).relay(publisher)

    assert publisher.events == ["1"]


async def test_transactions_take_turns_and_readers_do_not_wait(database: Database) -> None:
    unit, gate, inside = SqlUnitOfWork(database), asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with unit:
            await unit.connection.execute(sql.insert(NOTES).values(n=1))
            inside.set()
            await gate.wait()

    first = asyncio.create_task(slow())
    await inside.wait()
    second = asyncio.create_task(_write(unit, 2))
    assert await notes(database) == []
    assert not second.done()

    gate.set()
    await asyncio.gather(first, second)

    assert await notes(database) == [1, 2]


async def test_the_session_belongs_to_the_task_that_opened_it(database: Database) -> None:
    unit = SqlUnitOfWork(database)

    async def outside() -> None:
        with pytest.raises(RuntimeError, match="no transaction"):
            _ = unit.connection

    stranger = asyncio.create_task(outside())
    async with unit:
        await stranger
        with pytest.raises(RuntimeError, match="open already"):
            await unit.__aenter__()
    with pytest.raises(RuntimeError, match="no transaction"):
        _ = unit.connection


async def test_two_processes_wait_for_each_other_at_the_database(database: Database) -> None:
    one, other = SqlUnitOfWork(database), SqlUnitOfWork(database)

    await asyncio.gather(*(_write(unit, n) for n, unit in enumerate([one, other] * 20)))

    assert len(await notes(database)) == 40


async def test_an_event_that_is_too_large_is_rejected_when_recorded(database: Database) -> None:
    unit = SqlUnitOfWork(database)

    with pytest.raises(InputRejected, match="bytes"):
        await _record_large(unit)


async def _record_large(unit: SqlUnitOfWork) -> None:
    async with unit:
        await unit.record([event("1", {"x": "y" * 8_000_000})], {})


async def test_a_database_that_cannot_be_opened_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Misconfigured, match="cannot be opened"):
        await Database(sqlite_url(tmp_path / "file" / "state.db")).__aenter__()


async def test_a_missing_table_is_reported_as_unavailable(tmp_path: Path) -> None:
    async with Database(sqlite_url(tmp_path / "empty.db")) as database:
        with pytest.raises(Unavailable, match="no such table"):
            await _write(SqlUnitOfWork(database), 1)


async def test_only_a_batch_right_after_another_is_followed_by_a_pause(database: Database) -> None:
    unit = SqlUnitOfWork(database, settle_s=0.2)
    started = time.monotonic()

    await unit.settle()
    after_one = time.monotonic() - started
    await unit.settle()
    after_two = time.monotonic() - started

    assert after_one < 0.2 <= after_two
