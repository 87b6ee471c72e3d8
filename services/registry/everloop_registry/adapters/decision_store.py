"""Stores the decision logs in SQL tables, within a unit of work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Self

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncSession

from everloop_registry import metrics
from everloop_registry.domain.decision_log import DecisionContext, DecisionLog
from everloop_registry.domain.loop import GENESIS, Loop
from everloop_registry.domain.working_state import WorkingState
from everloop_registry.tables import decisions, loops, to_micros, versions, working
from everloop_schemas.envelope import Event
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import Decided, GateDecided, LoopApplied, VersionRegistered
from everloop_schemas.training import ModelTrainedData
from everloop_shared.database import Database
from everloop_shared.outbox import SqlUnitOfWork


class RegistryUnitOfWork(SqlUnitOfWork):
    """A unit of work with the decision store in it: what the store holds back is written before the commit."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "registry")
        self.store = SqlDecisionStore(self)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.store.discard()
        return self

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Write what was held back before, so that it is kept if the block raises."""
        await self.store.write_working_states()
        try:
            async with super().savepoint():
                yield
                await self.store.write_working_states()
        except BaseException:
            self.store.discard()
            raise

    async def record(self, events: Sequence[Event], offsets: dict[tuple[str, int], int]) -> None:
        """Record events and offsets, with the working states that the handlers left."""
        await self.store.write_working_states()
        await super().record(events, offsets)


class SqlDecisionStore:
    """The decision logs, in the open transaction of a unit of work; opening one locks the loop's row.

    An opened decision log is kept until the transaction ends, and its working state is written once, by
    `write_working_states`: most events of a batch are about the same loop and change nothing else.
    """

    def __init__(self, unit: SqlUnitOfWork) -> None:
        self._unit = unit
        self._opened: dict[str, DecisionLog] = {}
        self._held_back: set[str] = set()

    def discard(self) -> None:
        """Discard what was read and held back: a transaction begins, or a part of it was undone."""
        self._opened, self._held_back = {}, set()

    async def write_working_states(self) -> None:
        """Write the working states that were held back."""
        while self._held_back:
            loop = self._held_back.pop()
            state = self._opened[loop].working.model_dump_json()
            await _put(self._unit.session, working, loop, {"state": state})

    async def open(self, loop: str, context: DecisionContext) -> DecisionLog:
        """The loop's decision log."""
        if (known := self._opened.get(loop)) is None:
            known = self._opened[loop] = await self._read(loop, context)
        return DecisionLog(loop, context, state=known.state, head=known.head, working=known.working)

    async def _read(self, loop: str, context: DecisionContext) -> DecisionLog:
        session = self._unit.session
        row = (await session.execute(sql.select(loops).where(loops.c.loop == loop).with_for_update())).first()
        stored = await session.scalar(sql.select(working.c.state).where(working.c.loop == loop))
        return DecisionLog(
            loop,
            context,
            state=Loop.model_validate_json(row.state) if row else None,
            head=row.head if row else GENESIS,
            working=WorkingState.model_validate_json(stored) if stored else WorkingState(),
        )

    async def save(self, decision_log: DecisionLog) -> None:
        """Write decisions and fold; hold the working state back."""
        self._opened[decision_log.name] = decision_log
        self._held_back.add(decision_log.name)
        session = self._unit.session
        if decision_log.decided:
            await session.execute(sql.insert(decisions), [_to_row(d) for d in decision_log.decided])
            known = [d.data.model for d in decision_log.decided if isinstance(d, VersionRegistered)]
            if known:
                rows = [{"loop": decision_log.name, "version": m.version, "model": m.model_dump_json()} for m in known]
                await session.execute(sql.insert(versions), rows)
            known_json = decision_log.loop.model_dump_json(by_alias=True)
            state = {"head": decision_log.head, "state": known_json, "deleted": decision_log.loop.deleted}
            await _put(session, loops, decision_log.name, state)
            _count_after_commit(session, decision_log)

    async def model(self, loop: str, version: str) -> ModelTrainedData | None:
        """A registered version."""
        query = sql.select(versions.c.model).where(versions.c.loop == loop, versions.c.version == version)
        found = await self._unit.session.scalar(query)
        return ModelTrainedData.model_validate_json(found) if found else None

    async def is_judged(self, loop: str, version: str) -> bool:
        """Whether a registration or a refusal names it."""
        kinds = (VersionRegistered.type_name(), GateDecided.type_name())
        of = (decisions.c.loop == loop, decisions.c.subject == version, decisions.c.type.in_(kinds))
        return await self._unit.session.scalar(sql.select(sql.literal(1)).where(*of).limit(1)) is not None

    async def count_decided_since(self, loop: str, kind: type[Decided], moment: datetime) -> int:
        """Count rows."""
        of = (decisions.c.loop == loop, decisions.c.time_us > to_micros(moment), decisions.c.type == kind.type_name())
        count = sql.select(sql.func.count()).select_from(decisions).where(*of)
        return int(await self._unit.session.scalar(count) or 0)

    async def count_loops(self) -> tuple[int, int]:
        """Count rows."""
        ever = sql.func.count()
        deleted = sql.func.count().filter(loops.c.deleted)
        row = (await self._unit.session.execute(sql.select(ever, deleted).select_from(loops))).one()
        return int(row[0] - row[1]), int(row[0])

    async def has_loop(self, loop: str) -> bool:
        """Whether there is a row."""
        return await self._unit.session.scalar(sql.select(loops.c.loop).where(loops.c.loop == loop)) is not None

    async def specs(self, loop: str) -> list[LoopSpec]:
        """The specs of every revision."""
        of = (decisions.c.loop == loop, decisions.c.type == LoopApplied.type_name())
        wires = await self._unit.session.scalars(sql.select(decisions.c.wire).where(*of).order_by(decisions.c.sequence))
        return [LoopApplied.model_validate_json(wire).data.spec for wire in wires]


async def _put(session: AsyncSession, table: sql.Table, loop: str, values: dict[str, Any]) -> None:
    done = await session.execute(sql.update(table).where(table.c.loop == loop).values(**values))
    if not done.rowcount:  # type: ignore[attr-defined]
        await session.execute(sql.insert(table).values(loop=loop, **values))


def _to_row(decision: Decided) -> dict[str, Any]:
    return {
        "loop": decision.loop,
        "sequence": decision.sequence,
        "type": decision.type,
        "subject": decision.subject,
        "time_us": to_micros(decision.time),
        "wire": decision.encode(),
    }


def _count_after_commit(session: AsyncSession, decision_log: DecisionLog) -> None:
    kinds, loop = [d.type for d in decision_log.decided], decision_log.loop

    def count(_: object) -> None:
        for kind in kinds:
            metrics.DECISIONS.labels(loop.loop, kind).inc()
        if loop.deleted:
            for gauge in (metrics.CANDIDATE_SHARE, metrics.PINNED_LOOPS):
                gauge.labels(loop.loop)  # created, as only an existing label can be removed
                gauge.remove(loop.loop)
            return
        metrics.CANDIDATE_SHARE.labels(loop.loop).set(loop.share)
        metrics.PINNED_LOOPS.labels(loop.loop).set(loop.pinned)

    sql.event.listen(session.sync_session, "after_commit", count, once=True)
