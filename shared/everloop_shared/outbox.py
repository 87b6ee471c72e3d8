"""The unit of work of services with a database: state, events and offsets in one transaction; events leave after it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from itertools import accumulate, count
from math import inf
from types import TracebackType
from typing import Self

import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_schemas.catalogue import decode
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event, Topic
from everloop_shared import metrics
from everloop_shared.database import Database
from everloop_shared.errors import Disposition, InputRejected, ServiceError
from everloop_shared.messaging.routes import Publisher
from everloop_shared.postgresql import raise_if_away
from everloop_shared.sql_dialects import insert_into

log = logging.getLogger(__name__)
RELAY_BATCH_EVENTS = 500
RELAY_BATCH_BYTES = 8_000_000
"""The most that is read from the outbox at a time, or one larger event."""
RELAY_EVERY_S = 1.0
CHECK_EVERY_ROUNDS = 10
"""The rounds between two unconditional reads of the outbox, for events of a replica that has ended."""
MAX_EVENT_BYTES, MAX_DEAD_LETTER_BYTES = 8_000_000, 12_000_000


def add_kernel_tables(metadata: sql.MetaData) -> tuple[sql.Table, sql.Table]:
    """Declare `stored_offsets` and `outbox` in a service's metadata, so that its migrations create them."""
    offsets = sql.Table(
        "stored_offsets",
        metadata,
        sql.Column("topic", sql.String(249), primary_key=True),
        sql.Column("partition", sql.Integer, primary_key=True),
        sql.Column("next_offset", sql.BigInteger, nullable=False),
    )
    outbox = sql.Table(
        "outbox",
        metadata,
        sql.Column("id", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sql.Column("topic", sql.String(249), nullable=False),
        sql.Column("value", sql.LargeBinary, nullable=False),
        sqlite_autoincrement=True,  # an id is never used again, so their order is the order of the commits
    )
    return offsets, outbox


class SqlUnitOfWork:
    """One transaction at a time per process, shared by the engine and the HTTP commands.

    `async with unit:` begins it, `unit.connection` is where ports read and write, `await unit.record(events, offsets)`
    adds events and offsets; leaving commits, an exception rolls back. A task must not enter it twice. Raises
    Unavailable while the database is locked, full or away. Objects cached in memory are not rolled back: read state
    through the connection.
    """

    def __init__(self, database: Database, service: str = "", settle_s: float = 0.0) -> None:
        self._database = database
        self._service = service
        self._settle_s, self._settled_at = settle_s, -inf
        self._offsets, self._outbox = add_kernel_tables(sql.MetaData())
        self._locked_offsets = sql.select(self._offsets).with_for_update()
        self._move_offsets = _upsert(self._offsets, database.url.get_backend_name())
        self._add_events = sql.insert(self._outbox)
        box = self._outbox.c
        upto = sql.bindparam("upto", type_=box.id.type)
        self._sizes = sql.select(box.id, sql.func.length(box.value)).order_by(box.id).limit(RELAY_BATCH_EVENTS)
        self._events = sql.select(box.id, box.topic, box.value).where(box.id <= upto).order_by(box.id)
        self._delete_events = sql.delete(self._outbox).where(box.id <= upto)
        self._lock = asyncio.Lock()
        self._relay_lock = asyncio.Lock()
        self._open: ContextVar[AsyncConnection | None] = ContextVar(f"unit_of_work_{id(self)}", default=None)
        self._stack: AsyncExitStack | None = None
        self._pending = True  # a crash may have left events
        self._has_events = False
        self._after_commit: list[Callable[[], None]] = []

    @property
    def connection(self) -> AsyncConnection:
        """The connection of the transaction this task is in; RuntimeError outside of one."""
        connection = self._open.get()
        if connection is None:
            raise RuntimeError("no transaction is open here: use it inside `async with unit`")
        return connection

    def call_after_commit(self, call: Callable[[], None]) -> None:
        """Call this once the open transaction is committed; not if it is rolled back."""
        self._after_commit.append(call)

    async def __aenter__(self) -> Self:
        if self._open.get() is not None:
            raise RuntimeError("a transaction is open already: handlers write into it, they do not begin one")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._lock)
            try:
                connection = await stack.enter_async_context(self._database.engine.connect())
                await connection.begin()
            except SQLAlchemyError as e:
                raise_if_away(e)
                raise
            self._stack = stack.pop_all()
        self._has_events, self._after_commit = False, []
        self._open.set(connection)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, stack = self.connection, self._stack
        self._open.set(None)
        assert stack is not None, "entered"
        async with stack:
            if error is not None:
                await connection.rollback()
                raise_if_away(error)
                return
            try:
                await connection.commit()
            except SQLAlchemyError as e:
                raise_if_away(e)
                raise
            finally:  # not before the commit: a relay meanwhile would not see the rows
                self._pending = self._pending or self._has_events
            for call in self._after_commit:
                call()

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A savepoint: what is written inside is undone when the block raises, and the rest is not."""
        async with self.connection.begin_nested():
            yield

    async def record(self, events: Sequence[Event], offsets: dict[tuple[str, int], int]) -> None:
        """Add events to the outbox and move the stored offsets; raises InputRejected for an event over 8 MB."""
        for event in events:
            _check_size(event)
        rows = [{"topic": event.topic.name, "value": event.encode()} for event in events]
        if rows:
            await self.connection.execute(self._add_events, rows)
            self._has_events = True
        if offsets:
            moved = [{"topic": t, "partition": p, "next_offset": o} for (t, p), o in offsets.items()]
            await self.connection.execute(self._move_offsets, moved)

    async def offsets(self) -> dict[tuple[str, int], int]:
        """The next offset per (topic, partition).

        Inside a transaction the rows are locked, so that a replica which has lost a partition sees how far its new
        owner came, and handles no record twice.
        """
        connection = self._open.get()
        if connection is not None:
            rows = await connection.execute(self._locked_offsets)
        else:
            async with self._database.reading() as reader:
                rows = await reader.execute(sql.select(self._offsets))
        return {(topic, partition): offset for topic, partition, offset in rows}

    async def waiting(self, topic: Topic) -> list[Event]:
        """The events of a topic that are not published yet, oldest first; inside a transaction."""
        box = self._outbox.c
        query = sql.select(box.value).where(box.topic == topic.name).order_by(box.id)
        return [decode(topic.name, value) for value in await self.connection.scalars(query)]

    async def relay(self, publisher: Publisher) -> None:
        """Publish what is in the outbox, in order, and remove it once the broker has it.

        One replica at a time, so that each event is published once and in the order of the commits (decision 0081).
        While another call publishes, this one waits for it: what a repeated command stored before may be among it.
        """
        async with self._relay_lock:
            if not self._pending:
                return
            self._pending = False
            try:
                while await self._relay_some(publisher):
                    pass
            except BaseException:
                self._pending = True
                raise
            finally:
                metrics.OUTBOX.labels(self._service).set(int(self._pending))

    async def _relay_some(self, publisher: Publisher) -> bool:
        """Relay one batch; returns whether there may be more."""
        async with self._database.alone("relay"):
            rows, more = await self._oldest()
            if rows:
                await publisher.publish([decode(topic, value) for _, topic, value in rows])
                await self._remove(rows[-1][0])
        return more

    async def settle(self) -> None:
        """Pause for `settle_s` after a batch that came right after another, so that the next one grows meanwhile.

        A transaction for three events costs as much as one for three hundred, here and in every service that consumes
        what follows from it. Where events are rare, nothing waits.
        """
        if time.monotonic() - self._settled_at < self._settle_s:
            await asyncio.sleep(self._settle_s)
        self._settled_at = time.monotonic()

    async def relay_loop(self, publisher: Publisher) -> None:
        """A background job of the service: relay the events that could not be published while the broker was away."""
        for round in count(1):
            self._pending = self._pending or round % CHECK_EVERY_ROUNDS == 0
            try:
                await self.relay(publisher)
            except ServiceError as e:
                if e.disposition is not Disposition.RETRY:
                    raise
                log.info("events stay in the outbox", extra={"reason": e.detail})
            await asyncio.sleep(RELAY_EVERY_S)

    async def _oldest(self) -> tuple[list[tuple[int, str, bytes]], bool]:
        """The oldest rows within the limits, and whether there may be more."""
        async with self._database.reading() as reader:
            found = (await reader.execute(self._sizes)).all()
            numbers = [n for (n, _), total in zip(found, accumulate(s for _, s in found), strict=True)
                       if total <= RELAY_BATCH_BYTES or n == found[0][0]]  # fmt: skip
            if not numbers:
                return [], False
            rows = [(n, topic, value) for n, topic, value in await reader.execute(self._events, {"upto": numbers[-1]})]
            return rows, len(found) == RELAY_BATCH_EVENTS or len(numbers) < len(found)

    async def _remove(self, upto: int) -> None:
        try:
            async with self._lock, self._database.engine.begin() as connection:
                await connection.execute(self._delete_events, {"upto": upto})
        except SQLAlchemyError as e:
            raise_if_away(e)
            raise


def _upsert(offsets: sql.Table, backend: str) -> sql.Executable:
    insert = insert_into(offsets, backend)
    upsert: sql.Executable = insert.on_conflict_do_update(
        index_elements=["topic", "partition"], set_={"next_offset": insert.excluded.next_offset}
    )
    return upsert


def _check_size(event: Event) -> None:
    """Raise InputRejected for an event that is too large; a dead letter holds a whole record in base64."""
    limit = MAX_DEAD_LETTER_BYTES if isinstance(event, DeadLetter) else MAX_EVENT_BYTES
    if (size := len(event.encode())) > limit:
        raise InputRejected(f"an event of {event.topic.name} has {size:,} bytes; the limit is {limit:,}")
