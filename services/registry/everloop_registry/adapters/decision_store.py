"""Stores the decision logs in SQL tables, within a unit of work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Self

import sqlalchemy as sql

from everloop_registry import metrics
from everloop_registry.adapters.decision_fold import fold_decisions
from everloop_registry.adapters.erasure_reader import read_erasures
from everloop_registry.adapters.line_origins import find_origin, find_spec_lines
from everloop_registry.adapters.loop_specs import find_applied
from everloop_registry.adapters.team_uses import read_team_uses
from everloop_registry.adapters.tracking_store import SqlTrackingStore
from everloop_registry.domain.decision_log import DecisionContext, DecisionLog, Sign, leave_unsigned
from everloop_registry.domain.four_eyes import LineOrigin
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.spec_diff import SpecLine
from everloop_registry.domain.team_use import TeamUse
from everloop_registry.domain.working_state import WorkingState
from everloop_registry.tables import LOOP, decisions, loops, to_micros, versions, working
from everloop_schemas.decision_chain import GENESIS
from everloop_schemas.envelope import Event
from everloop_schemas.erasure import ErasureConfirmed, ErasureDecided
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import Decided, GateDecided, LoopState, VersionRegistered
from everloop_schemas.training import ModelTrainedData
from everloop_shared.database import Database
from everloop_shared.outbox import SqlUnitOfWork

OF = sql.bindparam("of", type_=LOOP)
LOCKED_LOOP = sql.select(loops).where(loops.c.loop == OF).with_for_update()
WORKING_STATE = sql.select(working.c.state).where(working.c.loop == OF)
NAMED = sql.bindparam("named", type_=versions.c.version.type)
MODEL = sql.select(versions.c.model).where(versions.c.loop == OF, versions.c.version == NAMED)
UPDATES = {table: sql.update(table).where(table.c.loop == OF) for table in (loops, working)}
"""Statements of every batch, built once."""


class RegistryUnitOfWork(SqlUnitOfWork):
    """A unit of work with the stores in it: what the decision store holds back is written before the commit."""

    def __init__(self, database: Database, settle_s: float = 0.0, sign: Sign = leave_unsigned) -> None:
        super().__init__(database, "registry", settle_s)
        self.store = SqlDecisionStore(self, sign)
        self.tracking = SqlTrackingStore(self)

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
        """Record events and offsets, with the working states that the handlers left.

        Of several states of a loop only the last one is recorded: the topic is compacted, and every service reads it.
        """
        await self.store.write_working_states()
        last = {event.loop: event for event in events if isinstance(event, LoopState)}
        await super().record([e for e in events if not isinstance(e, LoopState) or e is last[e.loop]], offsets)


class SqlDecisionStore:
    """The decision logs, in the open transaction of a unit of work; opening one locks the loop's row.

    An opened decision log is kept until the transaction ends, and its working state is written once, by
    `write_working_states`: most events of a batch are about the same loop and change nothing else. What was committed
    is kept beside its text, and is not parsed again where the row still holds that text.
    """

    def __init__(self, unit: SqlUnitOfWork, sign: Sign = leave_unsigned) -> None:
        self._unit, self._sign = unit, sign
        self._opened: dict[str, DecisionLog] = {}
        self._held_back: set[str] = set()
        self._folds: dict[str, tuple[str, Loop]] = {}
        self._committed: dict[str, tuple[str, WorkingState]] = {}

    def discard(self) -> None:
        """Discard what was read and held back: a transaction begins, or a part of it was undone."""
        self._opened, self._held_back = {}, set()

    async def write_working_states(self) -> None:
        """Write the working states that were held back."""
        while self._held_back:
            loop = self._held_back.pop()
            working_state = self._opened[loop].working
            text = working_state.model_dump_json()
            await self._put(working, loop, {"state": text})
            self._unit.call_after_commit(partial(self._committed.__setitem__, loop, (text, working_state)))

    async def open(self, loop: str, context: DecisionContext) -> DecisionLog:
        """The loop's decision log."""
        if (known := self._opened.get(loop)) is None:
            known = self._opened[loop] = await self._read(loop, context)
        return DecisionLog(loop, context, state=known.state, head=known.head, working=known.working, sign=self._sign)

    async def _read(self, loop: str, context: DecisionContext) -> DecisionLog:
        of = {"of": loop}
        row = (await self._unit.connection.execute(LOCKED_LOOP, of)).first()
        stored = await self._unit.connection.scalar(WORKING_STATE, of)
        return DecisionLog(
            loop,
            context,
            state=self._fold(loop, row.state) if row else None,
            head=row.head if row else GENESIS,
            working=self._working_state(loop, stored) if stored else WorkingState(),
        )

    @property
    def signs(self) -> bool:
        """Whether what it decides is signed."""
        return self._sign is not leave_unsigned

    async def signed_states(self, now: datetime) -> list[Event]:
        """The state of every loop, deleted ones too, signed now."""
        rows = await self._unit.connection.execute(sql.select(loops.c.head, loops.c.state).order_by(loops.c.loop))
        states = [Loop.model_validate_json(row.state).state_event(row.head) for row in rows]
        return [self._sign(state.copy_with(time=now)) for state in states]

    def _fold(self, loop: str, text: str) -> Loop:
        known = self._folds.get(loop)
        if known is None or known[0] != text:
            known = self._folds[loop] = text, Loop.model_validate_json(text)
        return known[1]

    def _working_state(self, loop: str, text: str) -> WorkingState:
        known = self._committed.pop(loop, None)  # it may be changed now, and is committed again or wrong
        return known[1] if known and known[0] == text else WorkingState.model_validate_json(text)

    async def save(self, decision_log: DecisionLog) -> None:
        """Write decisions and fold; hold the working state back."""
        self._opened[decision_log.name] = decision_log
        self._held_back.add(decision_log.name)
        if decision_log.decided:
            connection = self._unit.connection
            await connection.execute(sql.insert(decisions), [_to_row(d) for d in decision_log.decided])
            await fold_decisions(connection, decision_log.decided)
            loop = decision_log.loop
            state = {"head": decision_log.head, "state": loop.model_dump_json(by_alias=True), "deleted": loop.deleted}
            owned = {"team": loop.team or "", "feature_cost": loop.feature_cost}
            await self._put(loops, decision_log.name, state | owned)
            self._unit.call_after_commit(partial(_count, loop, [d.type for d in decision_log.decided]))

    async def _put(self, table: sql.Table, loop: str, values: dict[str, Any]) -> None:
        connection = self._unit.connection
        if not (await connection.execute(UPDATES[table], {"of": loop, **values})).rowcount:
            await connection.execute(sql.insert(table), {"loop": loop, **values})

    async def model(self, loop: str, version: str) -> ModelTrainedData | None:
        """A registered version."""
        found = await self._unit.connection.scalar(MODEL, {"of": loop, "named": version})
        return ModelTrainedData.model_validate_json(found) if found else None

    async def is_judged(self, loop: str, version: str) -> bool:
        """Whether a registration or a refusal names it."""
        kinds = (VersionRegistered.type_name(), GateDecided.type_name())
        of = (decisions.c.loop == loop, decisions.c.subject == version, decisions.c.type.in_(kinds))
        return await self._unit.connection.scalar(sql.select(sql.literal(1)).where(*of).limit(1)) is not None

    async def count_decided_since(self, loop: str, kind: type[Decided], moment: datetime) -> int:
        """Count rows."""
        of = (decisions.c.loop == loop, decisions.c.time_us > to_micros(moment), decisions.c.type == kind.type_name())
        count = sql.select(sql.func.count()).select_from(decisions).where(*of)
        return int(await self._unit.connection.scalar(count) or 0)

    async def count_loops(self) -> tuple[int, int]:
        """Count rows."""
        ever = sql.func.count()
        deleted = sql.func.count().filter(loops.c.deleted)
        row = (await self._unit.connection.execute(sql.select(ever, deleted).select_from(loops))).one()
        return int(row[0] - row[1]), int(row[0])

    async def team_use(self, team: str) -> TeamUse:
        """Add up its rows."""
        return (await read_team_uses(self._unit.connection, loops.c.team == team)).get(team, TeamUse())

    async def line_origin(self, loop: str, line: str) -> LineOrigin:
        """How a line came to be."""
        return await find_origin(self._unit.connection, loop, line)

    async def spec_lines(self, loop: str, life: int) -> list[SpecLine]:
        """The lines of models of the spec."""
        return await find_spec_lines(self._unit.connection, loop, life)

    async def has_loop(self, loop: str) -> bool:
        """Whether there is a row."""
        return await self._unit.connection.scalar(sql.select(loops.c.loop).where(loops.c.loop == loop)) is not None

    async def registered_as(self, loop: str, name: str) -> list[VersionRegistered]:
        """The registrations whose subject is a version of a line of this name."""
        subject, kind = decisions.c.subject, decisions.c.type == VersionRegistered.type_name()
        named = sql.or_(*(subject.startswith(name + mark, autoescape=True) for mark in "-."))
        query = sql.select(decisions.c.wire).where(decisions.c.loop == loop, kind, named).order_by(decisions.c.sequence)
        return [VersionRegistered.model_validate_json(w) for w in await self._unit.connection.scalars(query)]

    async def specs(self, loop: str) -> list[LoopSpec]:
        """The specs of every revision."""
        return [applied.data.spec for applied in await find_applied(self._unit.connection, loop)]

    async def erasures(self, loop: str, entity: str) -> list[ErasureDecided | ErasureConfirmed]:
        """The decisions whose subject it is."""
        return await read_erasures(self._unit.connection, loop, entity)


def _to_row(decision: Decided) -> dict[str, Any]:
    return {
        "loop": decision.loop,
        "sequence": decision.sequence,
        "type": decision.type,
        "subject": decision.subject,
        "time_us": to_micros(decision.time),
        "wire": decision.encode(),
    }


def _count(loop: Loop, kinds: Sequence[str]) -> None:
    for kind in kinds:
        metrics.DECISIONS.labels(loop.loop, kind).inc()
    if loop.deleted:
        for gauge in (metrics.CANDIDATE_SHARE, metrics.PINNED_LOOPS):
            gauge.labels(loop.loop)  # created, as only an existing label can be removed
            gauge.remove(loop.loop)
        return
    metrics.CANDIDATE_SHARE.labels(loop.loop).set(loop.share)
    metrics.PINNED_LOOPS.labels(loop.loop).set(loop.pinned)
