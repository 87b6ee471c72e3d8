"""Who keeps the registry's book: SQL tables, written in a unit of work, read on snapshots."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Self

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncSession

from everloop_registry import metrics
from everloop_registry.domain.ledger import Cause, Ledger
from everloop_registry.domain.loop import GENESIS, Loop
from everloop_registry.domain.work import Instead, Work
from everloop_registry.tables import decisions, loops, versions, working
from everloop_schemas.envelope import Event, at
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import Decided, GateDecided, LoopApplied, VersionRegistered
from everloop_schemas.training import ModelTrainedData
from everloop_shared.database import Database
from everloop_shared.outbox import SqlUnitOfWork


class BookUnit(SqlUnitOfWork):
    """A unit of work with the registry's book in it: what the book holds back is written before the commit."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "registry")
        self.book = SqlBook(self)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.book.forget()
        return self

    @asynccontextmanager
    async def part(self) -> AsyncIterator[None]:
        """What was held back before is written before, so that it stays where the block raises."""
        await self.book.write()
        try:
            async with super().part():
                yield
                await self.book.write()
        except BaseException:
            self.book.forget()
            raise

    async def record(self, events: Sequence[Event], offsets: dict[tuple[str, int], int]) -> None:
        """With the working states that the events' handlers left."""
        await self.book.write()
        await super().record(events, offsets)


class SqlBook:
    """The ledgers, in the open transaction of a unit of work; a loop's row is locked while its ledger is open.

    A ledger that was opened stays at hand until the transaction ends, and its working state is written once, by
    `write`: most events of a batch are about the same loop, and move nothing else.
    """

    def __init__(self, unit: SqlUnitOfWork) -> None:
        self._unit = unit
        self._opened: dict[str, Ledger] = {}
        self._held_back: set[str] = set()

    def forget(self) -> None:
        """A transaction begins, or a part of it was undone."""
        self._opened, self._held_back = {}, set()

    async def write(self) -> None:
        """Write the working states that were held back."""
        while self._held_back:
            loop = self._held_back.pop()
            state = self._opened[loop].work.model_dump_json()
            await _put(self._unit.session, working, loop, {"state": state})

    async def open(self, loop: str, cause: Cause) -> Ledger:
        """The loop's ledger."""
        if (known := self._opened.get(loop)) is None:
            known = self._opened[loop] = await self._read(loop, cause)
        return Ledger(loop, cause, loop=known.loop, head=known.head, work=known.work)

    async def _read(self, loop: str, cause: Cause) -> Ledger:
        session = self._unit.session
        row = (await session.execute(sql.select(loops).where(loops.c.loop == loop).with_for_update())).first()
        kept = await session.scalar(sql.select(working.c.state).where(working.c.loop == loop))
        return Ledger(
            loop,
            cause,
            loop=Loop.model_validate_json(row.state) if row else None,
            head=row.head if row else GENESIS,
            work=Work.model_validate_json(kept) if kept else Work(),
        )

    async def save(self, ledger: Ledger) -> None:
        """Write decisions and fold, and hold the working state back."""
        self._opened[ledger.name] = ledger
        self._held_back.add(ledger.name)
        session = self._unit.session
        if ledger.decided:
            await session.execute(sql.insert(decisions), [_row(d) for d in ledger.decided])
            known = [d.data.model for d in ledger.decided if isinstance(d, VersionRegistered)]
            if known:
                rows = [{"loop": ledger.name, "version": m.version, "model": m.model_dump_json()} for m in known]
                await session.execute(sql.insert(versions), rows)
            known_json = ledger.known.model_dump_json(by_alias=True)
            state = {"head": ledger.head, "state": known_json, "deleted": ledger.known.deleted}
            await _put(session, loops, ledger.name, state)
            _count_after_commit(session, ledger)

    async def model(self, loop: str, version: str) -> ModelTrainedData | None:
        """A registered version."""
        query = sql.select(versions.c.model).where(versions.c.loop == loop, versions.c.version == version)
        found = await self._unit.session.scalar(query)
        return ModelTrainedData.model_validate_json(found) if found else None

    async def judged(self, loop: str, version: str) -> bool:
        """Whether a registration or a refusal names it."""
        kinds = (VersionRegistered.type_name(), GateDecided.type_name())
        of = (decisions.c.loop == loop, decisions.c.subject == version, decisions.c.type.in_(kinds))
        return await self._unit.session.scalar(sql.select(sql.literal(1)).where(*of).limit(1)) is not None

    async def decided_since(self, loop: str, kind: type[Decided], moment: datetime) -> int:
        """A count of rows."""
        of = (decisions.c.loop == loop, decisions.c.time_us > micros(moment), decisions.c.type == kind.type_name())
        count = sql.select(sql.func.count()).select_from(decisions).where(*of)
        return int(await self._unit.session.scalar(count) or 0)

    async def loops(self) -> tuple[int, int]:
        """Counts of rows."""
        ever = sql.func.count()
        gone = sql.func.count().filter(loops.c.deleted)
        row = (await self._unit.session.execute(sql.select(ever, gone).select_from(loops))).one()
        return int(row[0] - row[1]), int(row[0])

    async def named(self, loop: str) -> bool:
        """Whether there is a row."""
        return await self._unit.session.scalar(sql.select(loops.c.loop).where(loops.c.loop == loop)) is not None

    async def specs(self, loop: str) -> list[LoopSpec]:
        """Every revision's."""
        of = (decisions.c.loop == loop, decisions.c.type == LoopApplied.type_name())
        wires = await self._unit.session.scalars(sql.select(decisions.c.wire).where(*of).order_by(decisions.c.sequence))
        return [LoopApplied.model_validate_json(wire).data.spec for wire in wires]


class SqlReader:
    """What is committed, on snapshots beside the writer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def loops(self, deleted: bool = False) -> list[Loop]:
        """Every loop."""
        async with self._database.reading() as session:
            rows = await session.execute(sql.select(loops.c.loop, loops.c.state).where(loops.c.deleted == deleted))
            return [Loop.model_validate_json(row.state) for row in sorted(rows, key=lambda r: str(r.loop))]

    async def loop(self, name: str) -> Loop | None:
        """One loop."""
        async with self._database.reading() as session:
            state = await session.scalar(sql.select(loops.c.state).where(loops.c.loop == name))
            return Loop.model_validate_json(state) if state else None

    async def unserved(self, name: str) -> dict[str, Instead]:
        """The instances that do not serve the champion."""
        async with self._database.reading() as session:
            kept = await session.scalar(sql.select(working.c.state).where(working.c.loop == name))
            return Work.model_validate_json(kept).unserved if kept else {}

    async def wires(self, loop: str, until: datetime | None = None, kind: str | None = None) -> list[bytes]:
        """A loop's decisions."""
        query = sql.select(decisions.c.wire).where(decisions.c.loop == loop).order_by(decisions.c.sequence)
        if until is not None:
            query = query.where(decisions.c.time_us <= micros(until))
        if kind is not None:
            query = query.where(decisions.c.type == kind)
        async with self._database.reading() as session:
            return list(await session.scalars(query))

    async def dump(self) -> str:
        """All that is a fold of decisions, as canonical JSON: what a rebuild must give again."""
        async with self._database.reading() as session:
            # sorted here, by code point: databases differ in how they order text
            told = sorted(await session.execute(sql.select(decisions)), key=lambda r: (r.loop, r.sequence))
            known = sorted(await session.execute(sql.select(versions)), key=lambda r: (r.loop, r.version))
            folded = sorted(await session.execute(sql.select(loops)), key=lambda r: str(r.loop))
            whole: dict[str, list[Any]] = {
                "loops": [[r.head, json.loads(r.state)] for r in folded],
                "versions": [[r.loop, json.loads(r.model)] for r in known],
                "decisions": [json.loads(r.wire) for r in told],
            }
        return json.dumps(whole, sort_keys=True, indent=1)


async def _put(session: AsyncSession, table: sql.Table, loop: str, values: dict[str, Any]) -> None:
    done = await session.execute(sql.update(table).where(table.c.loop == loop).values(**values))
    if not done.rowcount:  # type: ignore[attr-defined]
        await session.execute(sql.insert(table).values(loop=loop, **values))


def _row(decision: Decided) -> dict[str, Any]:
    return {
        "loop": decision.loop,
        "sequence": decision.sequence,
        "type": decision.type,
        "subject": decision.subject,
        "time_us": micros(decision.time),
        "wire": decision.encode(),
    }


def micros(time: datetime) -> int:
    """Microseconds since the epoch, exact."""
    return (time - at(0)) // timedelta(microseconds=1)


def _count_after_commit(session: AsyncSession, ledger: Ledger) -> None:
    kinds, loop = [d.type for d in ledger.decided], ledger.known

    def count(_: object) -> None:
        for kind in kinds:
            metrics.DECISIONS.labels(loop.loop, kind).inc()
        if loop.deleted:
            for gauge in (metrics.SHARE, metrics.PINNED):
                gauge.labels(loop.loop)  # there, so that it can be removed
                gauge.remove(loop.loop)
            return
        metrics.SHARE.labels(loop.loop).set(loop.share)
        metrics.PINNED.labels(loop.loop).set(loop.pinned)

    sql.event.listen(session.sync_session, "after_commit", count, once=True)
