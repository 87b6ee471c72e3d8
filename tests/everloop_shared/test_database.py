"""One database, several processes: one writer at a time, one relay at a time, and what "away" means."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sql
from tests.builders import events
from tests.databases import Databases, Postgres, database_url
from tests.tasks import cancel

from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived
from everloop_shared.database import Database, sqlite_url
from everloop_shared.errors import Misconfigured, Unavailable
from everloop_shared.outbox import SqlUnitOfWork, add_kernel_tables

NOW = datetime(2026, 1, 1, tzinfo=UTC)
METADATA = sql.MetaData()
NUMBERS = sql.Table("numbers", METADATA, sql.Column("n", sql.Integer, primary_key=True))
add_kernel_tables(METADATA)


def event(name: str) -> EventReceived:
    """An event; its id is its name."""
    return events.observation(name, {"x": 1.0}, "a", loop="l")


def opened(folder: Path) -> Database:
    """A replica's own view of the folder's database."""
    return Database(database_url(folder), metadata=METADATA, schema="numbers")


@asynccontextmanager
async def replicas(folder: Path) -> AsyncIterator[tuple[SqlUnitOfWork, SqlUnitOfWork]]:
    """Two processes on one database."""
    async with opened(folder) as one, opened(folder) as two:
        yield SqlUnitOfWork(one), SqlUnitOfWork(two)


class Topic:
    """A publisher that takes its time; `away` as long as it is so."""

    def __init__(self) -> None:
        self.published: list[str] = []
        self.away = False

    async def publish(self, events: Sequence[Event]) -> None:
        """Take them one by one."""
        if self.away:
            raise Unavailable("the broker is away")
        for each in events:
            await asyncio.sleep(0)
            self.published.append(each.id)


async def record_event(unit: SqlUnitOfWork, name: str) -> None:
    """Put one event into the outbox."""
    async with unit:
        await unit.record([event(name)], {})


async def count(unit: SqlUnitOfWork, times: int) -> None:
    """Read the highest number and write the next, several times: wrong wherever two do it at once."""
    for _ in range(times):
        async with unit:
            last = await unit.connection.scalar(sql.select(sql.func.max(NUMBERS.c.n))) or 0
            await unit.connection.execute(sql.insert(NUMBERS).values(n=last + 1))


async def test_two_replicas_write_one_after_the_other(tmp_path: Path, databases: Databases) -> None:
    async with replicas(tmp_path) as (one, two):
        await asyncio.gather(count(one, 20), count(two, 20))

        async with one:
            written = list(await one.connection.scalars(sql.select(NUMBERS.c.n).order_by(NUMBERS.c.n)))

    assert written == list(range(1, 41))


async def test_a_reader_sees_one_snapshot_beside_a_writer(tmp_path: Path, databases: Databases) -> None:
    async with opened(tmp_path) as database:
        unit, query = SqlUnitOfWork(database), sql.select(sql.func.count()).select_from(NUMBERS)
        async with database.reading() as reader:
            before = await reader.scalar(query)
            await count(unit, 2)
            still = await reader.scalar(query)
        async with database.reading() as reader:
            after = await reader.scalar(query)

    assert (before, still, after) == (0, 0, 2)


async def test_two_replicas_publish_every_event_once_in_the_order_of_the_commits(
    tmp_path: Path, databases: Databases
) -> None:
    async def work(unit: SqlUnitOfWork) -> None:
        for _ in range(15):
            async with unit:
                names.append(f"{len(names)}")  # alone in here: the order of the names is that of the commits
                await unit.record([event(names[-1])], {})
            await unit.relay(topic)

    names: list[str] = []
    topic = Topic()
    async with replicas(tmp_path) as (one, two):
        await asyncio.gather(work(one), work(two))

    assert len(names) == 30
    assert topic.published == names


async def test_events_that_a_dead_replica_left_are_published_by_the_other(
    tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_shared.outbox.CHECK_EVERY_ROUNDS", 1)
    topic = Topic()
    async with replicas(tmp_path) as (dead, other):
        await other.relay(topic)
        await record_event(dead, "left")

        loop = asyncio.create_task(other.relay_loop(topic))
        async with asyncio.timeout(20):
            while not topic.published:
                await asyncio.sleep(0.01)
        await cancel(loop)

    assert topic.published == ["left"]


async def test_a_relay_beside_an_open_transaction_does_not_forget_its_events(
    tmp_path: Path, databases: Databases
) -> None:
    topic = Topic()
    async with opened(tmp_path) as database:
        unit = SqlUnitOfWork(database)
        async with unit:
            await unit.record([event("late")], {})
            await unit.relay(topic)
        await unit.relay(topic)

    assert topic.published == ["late"]


async def test_events_of_one_replica_wait_behind_those_of_the_other_while_the_broker_is_away(
    tmp_path: Path, databases: Databases
) -> None:
    topic = Topic()
    topic.away = True
    async with replicas(tmp_path) as (one, two):
        await record_event(one, "first")
        with pytest.raises(Unavailable):
            await one.relay(topic)
        await record_event(two, "second")
        topic.away = False
        await two.relay(topic)
        await one.relay(topic)

    assert topic.published == ["first", "second"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://me:secret@somewhere/db", "supported"),
        ("postgresql+asyncpg://me:secret@somewhere/db", "supported"),
        ("secret", "looks like"),
    ],
)
def test_an_unusable_url_is_refused_with_the_correction(url: str, reason: str) -> None:
    with pytest.raises(Misconfigured, match=reason) as refused:
        Database(url)

    assert "secret" not in str(refused.value)


@pytest.mark.postgres
async def test_services_share_a_postgresql_database_without_touching_each_other(
    tmp_path: Path, postgres: Postgres
) -> None:
    other = sql.MetaData()
    same_name = sql.Table("numbers", other, sql.Column("word", sql.String, primary_key=True))
    url = postgres.url(tmp_path)
    async with (
        Database(url, metadata=METADATA, schema="one") as one,
        Database(url.replace("postgresql:", "postgresql+psycopg:"), metadata=other, schema="two") as two,
        one.engine.begin() as a,
        two.engine.begin() as b,  # each its own writer: neither waits for the other
    ):
        await a.execute(sql.insert(NUMBERS).values(n=1))
        await b.execute(sql.insert(same_name).values(word="one"))
        tables = await a.run_sync(lambda c: sql.inspect(c).get_table_names())

    assert sorted(tables) == ["numbers", "outbox", "stored_offsets"]
    postgres.drop()


@pytest.mark.postgres
async def test_a_postgresql_that_restarts_is_unavailable_and_then_there_again(
    tmp_path: Path, postgres: Postgres
) -> None:
    async with Database(postgres.url(tmp_path), metadata=METADATA, schema="numbers") as database:
        unit = SqlUnitOfWork(database)
        await count(unit, 1)
        postgres.stop()
        try:
            for attempt in (count(unit, 1), _read(database), unit.relay(Topic())):
                with pytest.raises(Unavailable):
                    await attempt
        finally:
            postgres.start()
        await count(unit, 1)

        numbers = await _read(database)

    assert numbers == [1, 2]
    postgres.drop()


@pytest.mark.postgres
async def test_a_transaction_interrupted_by_a_restart_leaves_nothing_and_can_be_repeated(
    tmp_path: Path, postgres: Postgres
) -> None:
    async with Database(postgres.url(tmp_path), metadata=METADATA, schema="numbers") as database:
        unit = SqlUnitOfWork(database)
        with pytest.raises(Unavailable):
            await _cut_off(unit, postgres)
        await count(unit, 1)

        numbers = await _read(database)

    assert numbers == [1]
    postgres.drop()


@pytest.mark.postgres
async def test_a_postgresql_that_is_not_there_yet_is_waited_for(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.url(tmp_path)
    postgres.stop()
    starting = asyncio.create_task(_read_at(url))
    try:
        done, _ = await asyncio.wait([starting], timeout=1.0)
    finally:
        postgres.start()

    async with asyncio.timeout(20):
        numbers = await starting

    assert not done
    assert numbers == []
    postgres.drop()


@pytest.mark.postgres
async def test_a_wrong_database_fails_at_once(
    tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_shared.database.WAIT_FOR_DATABASE_S", 0.0)
    url = str(postgres.server.get_uri(database="nowhere")).replace("postgres:@", "postgres:secret@")

    with pytest.raises(Misconfigured, match='"nowhere" does not exist') as refused:
        await _read_at(url)

    assert "secret" not in str(refused.value)


async def _cut_off(unit: SqlUnitOfWork, postgres: Postgres) -> None:
    async with unit:
        await unit.connection.execute(sql.insert(NUMBERS).values(n=7))
        postgres.stop()
        postgres.start()
        await unit.connection.execute(sql.insert(NUMBERS).values(n=8))


async def _read(database: Database) -> list[int]:
    async with database.reading() as session:
        return list(await session.scalars(sql.select(NUMBERS.c.n).order_by(NUMBERS.c.n)))


async def _read_at(url: str) -> list[int]:
    async with Database(url, metadata=METADATA, schema="numbers") as database:
        return await _read(database)


async def test_a_cancelled_waiter_does_not_block_the_lock(tmp_path: Path, databases: Databases) -> None:
    async with replicas(tmp_path) as (one, two):
        with suppress(ZeroDivisionError):
            async with one:
                raise ZeroDivisionError
        await record_event(two, "next")
        await two.relay(topic := Topic())

    assert topic.published == ["next"]


async def test_while_another_process_holds_the_lock_a_writer_waits_and_the_event_loop_goes_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(record_event(SqlUnitOfWork(database), "waits"))
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(writing), 0.1)
        waited = not writing.done()
        other.execute("ROLLBACK")
        other.close()

        await asyncio.wait_for(writing, 10)

    assert waited


async def test_a_lock_that_is_not_released_in_time_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_shared.sqlite.LOCKED_S", 0.05)
    async with opened(tmp_path) as database:
        with closing(sqlite3.connect(tmp_path / "test.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")

            with pytest.raises(Unavailable, match="locked"):
                await record_event(SqlUnitOfWork(database), "late")


def test_the_url_of_an_earlier_release_names_the_same_database(tmp_path: Path) -> None:
    before, now = f"sqlite+aiosqlite:///{tmp_path}/test.db", f"sqlite:///{tmp_path}/test.db"

    assert Database(before).url == Database(now).url == Database(sqlite_url(tmp_path / "test.db")).url
