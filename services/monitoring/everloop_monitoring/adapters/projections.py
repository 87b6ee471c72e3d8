"""The projections on SQL: few statements a transaction, each over the whole batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Row, Table, bindparam, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_monitoring.adapters.row_names import COUNTED, STATE, RowNames, form_of, key_of, time_text, without_nul
from everloop_monitoring.domain.evaluation import BatchEvaluation
from everloop_monitoring.domain.scores import LineTally, later_version
from everloop_monitoring.domain.shown import (
    MAX_COUNTED,
    MAX_IMPORTANCES,
    MAX_PREDICTIONS,
    ShownRecords,
    render_importance,
    render_prediction,
)
from everloop_monitoring.domain.state import CountedOutcome, EvaluationState
from everloop_monitoring.domain.timeline import TimelineEntry
from everloop_monitoring.domain.watch import Watch
from everloop_monitoring.ports import IdKind, IdsByKind
from everloop_monitoring.tables import happenings, lines, points, totals, watches, works
from everloop_schemas.loop import LoopSpec
from everloop_shared.outbox import SqlUnitOfWork
from everloop_shared.sql_dialects import driver_sql, insert_into

STATE_OF = select(works.c.state).where(works.c.loop == bindparam("of", type_=works.c.loop.type))
ADD_SEEN = "INSERT INTO seen (key) VALUES (?) ON CONFLICT DO NOTHING"
PUT_STATE = "INSERT INTO works (loop, state) VALUES (?, ?) ON CONFLICT (loop) DO UPDATE SET state = excluded.state"
PUT_WATCH = (
    "INSERT INTO watches (loop, kind, state) VALUES (?, ?, ?) "
    "ON CONFLICT (loop, kind) DO UPDATE SET state = excluded.state"
)
ADD_LATEST = "INSERT INTO latest_predictions (loop, key, prediction) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
ADD_MADE = (
    "INSERT INTO version_predictions (loop, version, role, n, first_time, last_time) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (loop, version, role) DO UPDATE SET n = version_predictions.n + excluded.n, "
    "last_time = CASE WHEN excluded.last_time > version_predictions.last_time "
    "THEN excluded.last_time ELSE version_predictions.last_time END"
)
ADD_IMPORTANCE = "INSERT INTO importances (loop, version, importance) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
DELETE_OLD = (
    "DELETE FROM {table} WHERE loop = ? AND seq <= "
    "(SELECT seq FROM {table} WHERE loop = ? ORDER BY seq DESC LIMIT 1 OFFSET {kept})"
)
ROWS_UNTIL_DELETION = 100
"""Old rows of a loop are deleted after so many new ones, not in each transaction."""
PUT_OUTCOME = "INSERT INTO outcomes (key, known) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET known = excluded.known"


class SqlProjections:
    """Projections in the open transaction of a unit of work.

    The states that were committed are kept beside their text, and are not parsed again where the row still holds it.
    """

    def __init__(self, unit: SqlUnitOfWork, row_name: RowNames) -> None:
        self._unit, self._row_name = unit, row_name
        self._committed: dict[str, tuple[str, EvaluationState]] = {}
        self._watches: dict[tuple[str, str], tuple[str, Watch]] = {}
        self._until_deletion: dict[str, int] = {}

    async def count_ids(self, ids: IdsByKind) -> dict[tuple[str, IdKind], tuple[int, int]]:
        """Insert or ignore the keys, one statement for each kind, then add the number of new ones to the totals."""
        new = Counter[tuple[str, IdKind]]()
        for (loop, kind), of_kind in ids.items():
            name = self._row_name(loop)
            new[loop, kind] = await self._execute(ADD_SEEN, [(key_of(name, kind, id),) for id in of_kind])
        return await self._add_to_totals(+new)

    async def load_evaluation(
        self, loop: str, prediction_ids: Iterable[str]
    ) -> tuple[EvaluationState, dict[str, CountedOutcome]]:
        """Two statements, whatever the size of the batch."""
        loop = self._row_name(loop)
        text = await self._connection().scalar(STATE_OF, {"of": loop})
        ids = {key_of(loop, id): id for id in prediction_ids}
        rows = await self._connection().exec_driver_sql(
            self._sql(f"SELECT key, known FROM outcomes WHERE key IN ({', '.join('?' * len(ids))})"), tuple(ids)
        )
        counted = {ids[bytes(row.key)]: COUNTED.validate_json(row.known) for row in rows}
        return EvaluationState() if text is None else self._state(loop, text), counted

    def _state(self, loop: str, text: str) -> EvaluationState:
        known = self._committed.pop(loop, None)  # it is changed now, and is committed again or wrong
        return known[1] if known and known[0] == text else STATE.validate_json(text)

    async def save_evaluation(self, loop: str, evaluation: BatchEvaluation, champion: str, at: datetime) -> None:
        """One upsert for each table."""
        now, loop = time_text(at), self._row_name(loop)
        state = STATE.dump_json(evaluation.state).decode()
        await self._execute(PUT_STATE, [(loop, state)])
        self._unit.call_after_commit(partial(self._committed.__setitem__, loop, (state, evaluation.state)))
        counted = evaluation.counted.items()
        await self._execute(PUT_OUTCOME, [(key_of(loop, id), COUNTED.dump_json(one).decode()) for id, one in counted])
        await self._save_lines(loop, evaluation, now)
        if evaluation.points:
            rows = [
                {"loop": loop, "outcomes": p.outcomes, **p.scores._asdict(), "version": p.version,
                 "champion": champion, "time": now, "metric": p.metric}
                for p in evaluation.points
            ]  # fmt: skip
            await self._connection().execute(self._insert(points).on_conflict_do_nothing(), rows)

    async def load_watches(self, loop: str, kinds: Sequence[type[Watch]], spec: LoopSpec) -> list[Watch]:
        """One statement. The rows are locked where the database locks rows."""
        of_loop, names = watches.c.loop == self._row_name(loop), [kind.kind for kind in kinds]
        query = select(watches).where(of_loop, watches.c.kind.in_(names)).order_by(watches.c.kind).with_for_update()
        stored = {row.kind: row.state for row in await self._connection().execute(query)}
        return [self._watch(loop, kind, stored.get(kind.kind)).follow(spec) for kind in kinds]

    def _watch(self, loop: str, kind: type[Watch], text: str | None) -> Watch:
        known = self._watches.pop((self._row_name(loop), kind.kind), None)  # it is changed now, as a state above
        if text is None:
            return kind()
        return known[1] if known and known[0] == text else form_of(kind).validate_json(text)

    async def save_watches(self, loop: str, changed: Sequence[Watch]) -> None:
        """One upsert for each."""
        loop = self._row_name(loop)
        for watch in changed:
            state = form_of(type(watch)).dump_json(watch).decode()
            await self._execute(PUT_WATCH, [(loop, watch.kind, state)])
            self._unit.call_after_commit(partial(self._watches.__setitem__, (loop, watch.kind), (state, watch)))

    async def add_shown(self, shown: ShownRecords) -> None:
        """Two statements for all predictions, and seldom two more for each loop; versions are rare."""
        rows = [
            (name, key_of(name, event.subject), render_prediction(event))
            for loop, events in shown.predictions.items()
            for name in (self._row_name(loop),)
            for event in events
        ]
        await self._execute(ADD_LATEST, rows)
        made = sorted(shown.made.items())  # in one order, for transactions at the same time
        counts = [
            (self._row_name(loop), version, role, m.n, time_text(m.first), time_text(m.last))
            for (loop, version, role), m in made
        ]
        await self._execute(ADD_MADE, counts)
        for name, n in Counter(row[0] for row in rows).items():
            left = self._until_deletion[name] = self._until_deletion.get(name, 0) - n
            if left <= 0:
                await self._delete_old("latest_predictions", name, MAX_PREDICTIONS)
                await self._delete_old("version_predictions", name, MAX_COUNTED)
                self._until_deletion[name] = ROWS_UNTIL_DELETION
        for loop, importances in shown.importances.items():
            name = self._row_name(loop)
            found = [(name, version, render_importance(importance)) for version, importance in importances]
            await self._execute(ADD_IMPORTANCE, [row for row in found if row[2] is not None])
            await self._delete_old("importances", name, MAX_IMPORTANCES)

    async def _delete_old(self, table: str, name: str, kept: int) -> None:
        await self._execute(DELETE_OLD.format(table=table, kept=kept), [(name, name)])

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

    async def _execute(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Execute a statement for each row, without SQLAlchemy's work on each; the number of rows that it changed."""
        return (await self._connection().exec_driver_sql(self._sql(statement), list(rows))).rowcount if rows else 0

    def _sql(self, statement: str) -> str:
        return driver_sql(statement, self._connection().dialect.name)

    def _connection(self) -> AsyncConnection:
        return self._unit.connection

    def _insert(self, table: Table) -> sqlite.Insert:
        return insert_into(table, self._connection().dialect.name)


def _add_tally(tally: LineTally, before: Row[Any] | None) -> dict[str, Any]:
    counts = {c: getattr(tally, c) + (getattr(before, c) if before else 0) for c in ("predicted", "served")}
    sums = {c: getattr(tally, c) + (int(getattr(before, c)) if before else 0) for c in ("error", "served_error")}
    version = later_version(before.version, tally.version) if before else tally.version
    return {"version": version} | counts | {c: str(total) for c, total in sums.items()}


def _mean(errors: Sequence[float]) -> float | None:
    return sum(errors) / len(errors) if errors else None
