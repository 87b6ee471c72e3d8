"""The projections on SQL: few statements a transaction, each over the whole batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_monitoring.adapters.row_names import COUNTED, STATE, RowNames, key_of, time_text, without_nul
from everloop_monitoring.domain.evaluation import BatchEvaluation
from everloop_monitoring.domain.scores import LineTally, later_version
from everloop_monitoring.domain.state import CountedOutcome, EvaluationState
from everloop_monitoring.domain.timeline import TimelineEntry
from everloop_monitoring.ports import CountedId, IdKind
from everloop_monitoring.tables import happenings, lines, outcomes, points, seen, totals, works


class SqlProjections:
    """Projections on the connection of the open unit of work; `connection` gives it."""

    def __init__(self, connection: Callable[[], AsyncConnection], row_name: RowNames) -> None:
        self._connection, self._row_name = connection, row_name

    async def count_ids(self, ids: Sequence[CountedId]) -> dict[tuple[str, IdKind], tuple[int, int]]:
        """Two statements: insert or ignore the keys, then add the number of new ones to the totals."""
        by_key = {key_of(self._row_name(i.loop), i.kind, i.id): (i.loop, i.kind) for i in ids}
        if not by_key:
            return {}
        statement = self._insert(seen).on_conflict_do_nothing().returning(seen.c.key)
        new = await self._connection().scalars(statement, [{"key": key} for key in by_key])
        return await self._add_to_totals(Counter(by_key[key] for key in new))

    async def load_evaluation(
        self, loop: str, prediction_ids: Iterable[str]
    ) -> tuple[EvaluationState, dict[str, CountedOutcome]]:
        """Two statements, whatever the size of the batch."""
        loop = self._row_name(loop)
        state = await self._connection().scalar(select(works.c.state).where(works.c.loop == loop))
        ids = {key_of(loop, id): id for id in prediction_ids}
        rows = await self._connection().execute(select(outcomes).where(outcomes.c.key.in_(list(ids))))
        counted = {ids[row.key]: COUNTED.validate_json(row.known) for row in rows}
        return EvaluationState() if state is None else STATE.validate_json(state), counted

    async def save_evaluation(self, loop: str, evaluation: BatchEvaluation, champion: str, at: datetime) -> None:
        """One upsert for each table."""
        now, loop = time_text(at), self._row_name(loop)
        await self._upsert(works, [{"loop": loop, "state": STATE.dump_json(evaluation.state).decode()}])
        counted = evaluation.counted.items()
        known = [{"key": key_of(loop, id), "known": COUNTED.dump_json(one).decode()} for id, one in counted]
        await self._upsert(outcomes, known)
        await self._save_lines(loop, evaluation, now)
        if evaluation.points:
            rows = [
                {"loop": loop, "outcomes": p.outcomes, **p.scores._asdict(), "version": p.version,
                 "champion": champion, "time": now}
                for p in evaluation.points
            ]  # fmt: skip
            await self._connection().execute(self._insert(points).on_conflict_do_nothing(), rows)

    async def add_timeline_entries(self, entries: Sequence[TimelineEntry]) -> None:
        """Insert or ignore by id, and count the new ones by kind."""
        if not entries:
            return
        rows = [
            {"id": e.id, "loop": self._row_name(e.loop), "kind": e.kind, "time": time_text(e.time),
             "what": without_nul(e.what), "why": without_nul(e.why), "data": e.data}
            for e in {e.id: e for e in entries}.values()
        ]  # fmt: skip
        statement = self._insert(happenings).on_conflict_do_nothing(index_elements=["id"])
        new = await self._connection().execute(statement.returning(happenings.c.loop, happenings.c.kind), rows)
        loops = {self._row_name(e.loop): e.loop for e in entries}
        await self._add_to_totals(Counter((loops[row.loop], f"{row.kind}s") for row in new))

    async def _add_to_totals(self, grown: Counter[tuple[str, Any]]) -> dict[tuple[str, Any], tuple[int, int]]:
        if not grown:
            return {}
        insert = self._insert(totals)
        upsert = insert.on_conflict_do_update(
            index_elements=[totals.c.loop, totals.c.kind], set_={"n": totals.c.n + insert.excluded.n}
        )
        rows = [{"loop": self._row_name(loop), "kind": kind, "n": n} for (loop, kind), n in grown.items()]
        of = {(row["loop"], row["kind"]): key for row, key in zip(rows, grown, strict=True)}
        result = await self._connection().execute(upsert.returning(totals), rows)
        return {(key := of[r.loop, r.kind]): (r.n - grown[key], r.n) for r in result}

    async def _save_lines(self, loop: str, evaluation: BatchEvaluation, now: str) -> None:
        """Add up here: an exact sum has more digits than a database's numbers. One replica at a time has a loop."""
        tallies, by_line = evaluation.tallies, evaluation.state.by_line
        if not tallies:
            return
        insert = self._insert(lines)
        updated = ("version", "predicted", "error", "served", "served_error", "rolling", "last_time")
        upsert = insert.on_conflict_do_update(
            index_elements=[lines.c.loop, lines.c.line], set_={c: insert.excluded[c] for c in updated}
        )
        query = select(lines).where(lines.c.loop == loop, lines.c.line.in_(list(tallies)))
        stored = {row.line: row for row in await self._connection().execute(query)}
        rows = [
            {
                "loop": loop, "line": line, "rolling": _mean(by_line.get(line, (0, []))[1]),
                "first_time": now, "last_time": now, **_add_tally(tally, stored.get(line)),
            }
            for line, tally in tallies.items()
        ]  # fmt: skip
        await self._connection().execute(upsert, rows)

    async def _upsert(self, table: Table, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        insert = self._insert(table)
        keys = list(table.primary_key.columns)
        rest = {c.name: insert.excluded[c.name] for c in table.columns if not c.primary_key}
        await self._connection().execute(insert.on_conflict_do_update(index_elements=keys, set_=rest), rows)

    def _insert(self, table: Table) -> sqlite.Insert:
        """SQLite's insert or PostgreSQL's: both know ON CONFLICT, the general one does not."""
        if self._connection().dialect.name == "postgresql":
            return postgresql.insert(table)  # type: ignore[return-value]  # the two have the same methods
        return sqlite.insert(table)


def _add_tally(tally: LineTally, before: Row[Any] | None) -> dict[str, Any]:
    counts = {c: getattr(tally, c) + (getattr(before, c) if before else 0) for c in ("predicted", "served")}
    sums = {c: getattr(tally, c) + (int(getattr(before, c)) if before else 0) for c in ("error", "served_error")}
    version = later_version(before.version, tally.version) if before else tally.version
    return {"version": version} | counts | {c: str(total) for c, total in sums.items()}


def _mean(errors: Sequence[float]) -> float | None:
    return sum(errors) / len(errors) if errors else None
