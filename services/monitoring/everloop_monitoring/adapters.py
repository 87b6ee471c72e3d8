"""The projections on SQL: few statements a transaction, each over the whole batch."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from hashlib import blake2b
from math import nan
from typing import Any, Self

from pydantic import TypeAdapter
from sqlalchemy import Row, Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.loop import Fold, Known, Work
from everloop_monitoring.domain.scores import VersionTally
from everloop_monitoring.domain.status import metric_scores, scores
from everloop_monitoring.domain.timeline import Happening
from everloop_monitoring.handlers import LOOP_LENGTH, Handlers
from everloop_monitoring.metrics import CONTRADICTED, SCORE, TOTAL
from everloop_monitoring.ports import Kind, Reports, Sighting
from everloop_monitoring.tables import happenings, outcomes, points, seen, totals, versions, works
from everloop_schemas.envelope import Event
from everloop_shared.clock import Clock, system_clock
from everloop_shared.database import Database
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.routes import Publisher
from everloop_shared.outbox import SqlUnitOfWork

WORK = TypeAdapter(Work)
KNOWN = TypeAdapter(Known)
Scope = Callable[[str], str]
"""From a loop to the name its rows are kept under."""


def _key(*parts: str) -> bytes:
    return blake2b("\0".join(parts).encode(), digest_size=16).digest()


def _plain(words: str) -> str:
    return words.replace("\0", "�")  # PostgreSQL's text has no NUL; a dead letter's reason may quote one


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")


class Scopes:
    """The names under which rows are kept: the loop's, and in a later life one of that life's own.

    So what is left of a life that has ended is never counted into the next.
    """

    def __init__(self, loops: KnownLoops) -> None:
        self._loops = loops

    def __call__(self, loop: str) -> str:
        """The name for a loop as it lives now, at most 63 characters."""
        state = self._loops.get(loop)
        life = state.data.life if state else 1
        if life == 1:
            return loop
        name = f"{loop}@{life}"
        return name if len(name) <= LOOP_LENGTH else f"{loop[:40]}.{_key(loop).hex()[:12]}@{life}"


class FoldingUnit(SqlUnitOfWork):
    """A unit of work that folds what the handlers noted into the projections before it commits.

    `settle_s` is how long it waits after a batch, so that the next one is worth its transaction: a batch of three
    outcomes costs as much as one of three hundred, here and in everyone who reads what it caused.
    """

    def __init__(self, database: Database, settle_s: float = 0.0, clock: Clock = system_clock) -> None:
        super().__init__(database, "monitoring")
        self._settle_s = settle_s
        loops = KnownLoops()
        self.handlers = Handlers(SqlProjections(lambda: self.session, Scopes(loops)), loops, clock)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.handlers.begin()
        return self

    @asynccontextmanager
    async def part(self) -> AsyncIterator[None]:
        """Handlers write nothing but the batch: what one noted before it raised is dropped."""
        before = self.handlers.batch.copy()
        try:
            yield
        except BaseException:
            self.handlers.batch = before
            raise

    async def record(self, events: Sequence[Event], offsets: dict[tuple[str, int], int]) -> None:
        """The fold's events leave with the same transaction as the offsets they follow from."""
        await super().record([*events, *await self.handlers.close()], offsets)

    async def relay(self, publisher: Publisher) -> None:
        """The engine calls it once a batch, when the batch is committed."""
        await super().relay(publisher)
        await asyncio.sleep(self._settle_s)


class SqlProjections:
    """Projections in the session of the open unit of work; `session` gives it."""

    def __init__(self, session: Callable[[], AsyncSession], scope: Scope) -> None:
        self._session, self._scope = session, scope

    async def count(self, sightings: Sequence[Sighting]) -> dict[tuple[str, Kind], tuple[int, int]]:
        """Two statements: insert or ignore the keys, then add what was new to the totals."""
        by_key = {_key(self._scope(s.loop), s.kind, s.id): (s.loop, s.kind) for s in sightings}
        if not by_key:
            return {}
        statement = self._insert(seen).on_conflict_do_nothing().returning(seen.c.key)
        fresh = await self._session().scalars(statement, [{"key": key} for key in by_key])
        grown = Counter(by_key[key] for key in fresh)
        return await self._add(grown)

    async def recall(self, loop: str, prediction_ids: Iterable[str]) -> tuple[Work, dict[str, Known]]:
        """Two statements, whatever the batch."""
        loop = self._scope(loop)
        state = await self._session().scalar(select(works.c.state).where(works.c.loop == loop))
        ids = {_key(loop, id): id for id in prediction_ids}
        rows = await self._session().execute(select(outcomes).where(outcomes.c.key.in_(list(ids))))
        known = {ids[row.key]: KNOWN.validate_json(row.known) for row in rows}
        return Work() if state is None else WORK.validate_json(state), known

    async def keep(self, loop: str, fold: Fold, champion: str, at: datetime) -> None:
        """One upsert a table."""
        session, now, loop = self._session(), _text(at), self._scope(loop)
        await self._upsert(works, [{"loop": loop, "state": WORK.dump_json(fold.work).decode()}])
        kept = [{"key": _key(loop, id), "known": KNOWN.dump_json(k).decode()} for id, k in fold.known.items()]
        await self._upsert(outcomes, kept)
        await self._keep_versions(loop, fold, now)
        if fold.points:
            rows = [
                {"loop": loop, "outcomes": p.outcomes, **p.scores._asdict(), "version": p.version,
                 "champion": champion, "time": now}
                for p in fold.points
            ]  # fmt: skip
            await session.execute(self._insert(points).on_conflict_do_nothing(), rows)

    async def tell(self, told: Sequence[Happening]) -> None:
        """Insert or ignore by id, and count the new ones by kind."""
        if not told:
            return
        rows = [
            {"id": h.id, "loop": self._scope(h.loop), "kind": h.kind, "time": _text(h.time), "what": _plain(h.what),
             "why": _plain(h.why), "data": h.data}
            for h in {h.id: h for h in told}.values()
        ]  # fmt: skip
        statement = self._insert(happenings).on_conflict_do_nothing(index_elements=["id"])
        fresh = await self._session().execute(statement.returning(happenings.c.loop, happenings.c.kind), rows)
        loops = {self._scope(h.loop): h.loop for h in told}
        await self._add(Counter((loops[row.loop], f"{row.kind}s") for row in fresh))

    async def _add(self, grown: Counter[tuple[str, Any]]) -> dict[tuple[str, Any], tuple[int, int]]:
        if not grown:
            return {}
        insert = self._insert(totals)
        more = insert.on_conflict_do_update(
            index_elements=[totals.c.loop, totals.c.kind], set_={"n": totals.c.n + insert.excluded.n}
        )
        rows = [{"loop": self._scope(loop), "kind": kind, "n": n} for (loop, kind), n in grown.items()]
        of = {(row["loop"], row["kind"]): key for row, key in zip(rows, grown, strict=True)}
        result = await self._session().execute(more.returning(totals), rows)
        return {(key := of[r.loop, r.kind]): (r.n - grown[key], r.n) for r in result}

    async def _keep_versions(self, loop: str, fold: Fold, now: str) -> None:
        """Add up here: an exact sum has more digits than a database's numbers. One replica at a time has a loop."""
        if not fold.tallies:
            return
        insert = self._insert(versions)
        told = ("predicted", "error", "served", "served_error", "rolling", "last_time")
        upsert = insert.on_conflict_do_update(
            index_elements=[versions.c.loop, versions.c.version], set_={c: insert.excluded[c] for c in told}
        )
        query = select(versions).where(versions.c.loop == loop, versions.c.version.in_(list(fold.tallies)))
        known = {row.version: row for row in await self._session().execute(query)}
        rows = [
            {
                "loop": loop, "version": version, "rolling": _mean(fold.work.by_version.get(version, (0, []))[1]),
                "first_time": now, "last_time": now, **_added(tally, known.get(version)),
            }
            for version, tally in fold.tallies.items()
        ]  # fmt: skip
        await self._session().execute(upsert, rows)

    async def _upsert(self, table: Table, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        insert = self._insert(table)
        keys = list(table.primary_key.columns)
        rest = {c.name: insert.excluded[c.name] for c in table.columns if not c.primary_key}
        await self._session().execute(insert.on_conflict_do_update(index_elements=keys, set_=rest), rows)

    def _insert(self, table: Table) -> sqlite.Insert:
        """SQLite's insert or PostgreSQL's: both know ON CONFLICT, the general one does not."""
        if self._session().get_bind().dialect.name == "postgresql":
            return postgresql.insert(table)  # type: ignore[return-value]  # the two have the same methods
        return sqlite.insert(table)


class SqlReports:
    """What the doors read, each answer from its own short session."""

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database, self._scope = database, scope

    async def totals(self, loop: str) -> dict[str, int]:
        """Distinct ids by kind."""
        rows = await self._rows(select(totals.c.kind, totals.c.n).where(totals.c.loop == self._scope(loop)))
        return {row.kind: row.n for row in rows}

    async def work(self, loop: str) -> Work | None:
        """The loop's state after the last committed outcome."""
        rows = await self._rows(select(works.c.state).where(works.c.loop == self._scope(loop)))
        return WORK.validate_json(rows[0].state) if rows else None

    async def versions(self, loop: str, limit: int) -> list[dict[str, Any]]:
        """Sums per version, the last `limit` in order of first appearance."""
        order = versions.c.first_time.desc(), versions.c.version.desc()
        query = select(versions).where(versions.c.loop == self._scope(loop)).order_by(*order).limit(limit)
        return [dict(row._mapping) for row in reversed(await self._rows(query))]

    async def happenings(self, loop: str, kinds: Sequence[str] | None, limit: int) -> list[Happening]:
        """The last `limit`, oldest first."""
        query = select(happenings).where(happenings.c.loop == self._scope(loop))
        if kinds is not None:
            query = query.where(happenings.c.kind.in_(kinds))
        rows = await self._rows(query.order_by(happenings.c.time.desc(), happenings.c.seq.desc()).limit(limit))
        return [
            Happening(r.id, loop, r.kind, datetime.fromisoformat(r.time), r.what, r.why, r.data) for r in reversed(rows)
        ]

    async def series(self, loop: str, limit: int) -> list[dict[str, Any]]:
        """The last `limit` points of the curves, oldest first."""
        query = select(points).where(points.c.loop == self._scope(loop)).order_by(points.c.outcomes.desc()).limit(limit)
        return [{k: v for k, v in r._mapping.items() if k != "loop"} for r in reversed(await self._rows(query))]

    async def _rows(self, query: Any) -> Sequence[Row[Any]]:
        async with self._database.reading() as session:
            return (await session.execute(query)).all()


async def show_gauges(reports: Reports, loops: KnownLoops, every_s: float) -> None:
    """A background job: what Prometheus scrapes follows the projections, also right after a restart."""
    shown: set[str] = set()
    while True:
        with suppress(Unavailable):  # the gauges stand still while the database is away
            for gone in shown - {state.loop for state in loops.all()}:
                for gauge in (TOTAL, SCORE, CONTRADICTED):
                    gauge.remove_by_labels({"loop": gone})
            shown = {state.loop for state in loops.all()}
            for state in loops.all():
                metric = "mae" if state.data.spec.task == "regression" else "accuracy"
                for kind, n in (await reports.totals(state.loop)).items():
                    TOTAL.labels(state.loop, kind).set(n)
                work = await reports.work(state.loop)
                for kind, score in scores(state, work).items():
                    SCORE.labels(state.loop, kind, metric).set(score)
                for kind, found in metric_scores(state.data.spec, work).items():
                    SCORE.labels(state.loop, kind, state.data.spec.metric).set(nan if found is None else found)
                CONTRADICTED.labels(state.loop).set(work.contradictions.rate if work else 0.0)
        await asyncio.sleep(every_s)


def _added(tally: VersionTally, before: Row[Any] | None) -> dict[str, Any]:
    counts = {c: getattr(tally, c) + (getattr(before, c) if before else 0) for c in ("predicted", "served")}
    sums = {c: getattr(tally, c) + (int(getattr(before, c)) if before else 0) for c in ("error", "served_error")}
    return counts | {c: str(total) for c, total in sums.items()}


def _mean(errors: Sequence[float]) -> float | None:
    return sum(errors) / len(errors) if errors else None
