"""What the endpoints read, each answer from a short snapshot of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select

from everloop_monitoring.adapters.alert_store import silence_of
from everloop_monitoring.adapters.row_names import COUNTED, OPEN_ALERT, STATE, RowNames, form_of, time_text
from everloop_monitoring.domain.alerts import OpenAlert
from everloop_monitoring.domain.silences import Silence
from everloop_monitoring.domain.state import EvaluationState
from everloop_monitoring.domain.timeline import TimelineEntry
from everloop_monitoring.ports import W
from everloop_monitoring.tables import (
    happenings,
    importances,
    latest_predictions,
    lines,
    open_alerts,
    outcomes,
    points,
    silences,
    totals,
    version_predictions,
    watches,
    works,
)
from everloop_schemas.envelope import Scalar
from everloop_shared.database import Database


class SqlMonitoringReader:
    """The committed rows of a loop, under the name that `row_name` gives."""

    def __init__(self, database: Database, row_name: RowNames) -> None:
        self._database, self._row_name = database, row_name

    async def totals(self, loop: str) -> dict[str, int]:
        """Distinct ids by kind."""
        rows = await self._rows(select(totals.c.kind, totals.c.n).where(totals.c.loop == self._row_name(loop)))
        return {row.kind: row.n for row in rows}

    async def evaluation_state(self, loop: str) -> EvaluationState | None:
        """The loop's state after the last committed outcome."""
        rows = await self._rows(select(works.c.state).where(works.c.loop == self._row_name(loop)))
        return STATE.validate_json(rows[0].state) if rows else None

    async def watch(self, loop: str, kind: type[W]) -> W | None:
        """A watch after the last committed record."""
        of_loop = watches.c.loop == self._row_name(loop), watches.c.kind == kind.kind
        rows = await self._rows(select(watches.c.state).where(*of_loop))
        return form_of(kind).validate_json(rows[0].state) if rows else None

    async def latest_predictions(self, loop: str, limit: int) -> list[tuple[dict[str, Any], Scalar | None]]:
        """The last predictions that are kept, newest first, each with its label where that is known."""
        query = (
            select(latest_predictions.c.prediction, outcomes.c.known)
            .join(outcomes, outcomes.c.key == latest_predictions.c.key, isouter=True)
            .where(latest_predictions.c.loop == self._row_name(loop))
            .order_by(latest_predictions.c.seq.desc())
            .limit(limit)
        )
        return [
            (json.loads(row.prediction), None if row.known is None else COUNTED.validate_json(row.known).label)
            for row in await self._rows(query)
        ]

    async def made_by(self, loop: str, version: str) -> list[dict[str, Any]]:
        """How many predictions a version made, by role."""
        of = version_predictions.c.loop == self._row_name(loop), version_predictions.c.version == version
        rows = await self._rows(select(version_predictions).where(*of).order_by(version_predictions.c.role))
        return [{"role": r.role, "predictions": r.n, "first": r.first_time, "last": r.last_time} for r in rows]

    async def importances(self, loop: str, limit: int) -> list[tuple[str, dict[str, float]]]:
        """The last versions whose importance is kept, newest first, with it."""
        of_loop = importances.c.loop == self._row_name(loop)
        rows = await self._rows(select(importances).where(of_loop).order_by(importances.c.seq.desc()).limit(limit))
        return [(row.version, json.loads(row.importance)) for row in rows]

    async def lines(self, loop: str, limit: int) -> list[dict[str, Any]]:
        """Sums by line, the last `limit` in order of first appearance."""
        order = lines.c.first_time.desc(), lines.c.line.desc()
        query = select(lines).where(lines.c.loop == self._row_name(loop)).order_by(*order).limit(limit)
        return [dict(row._mapping) for row in reversed(await self._rows(query))]

    async def timeline_entries(self, loop: str, kinds: Sequence[str] | None, limit: int) -> list[TimelineEntry]:
        """The last `limit`, oldest first."""
        query = select(happenings).where(happenings.c.loop == self._row_name(loop))
        if kinds is not None:
            query = query.where(happenings.c.kind.in_(kinds))
        rows = await self._rows(query.order_by(happenings.c.time.desc(), happenings.c.seq.desc()).limit(limit))
        return [
            TimelineEntry(r.id, loop, r.kind, datetime.fromisoformat(r.time), r.what, r.why, r.data)
            for r in reversed(rows)
        ]

    async def open_alerts(self, loop: str) -> list[OpenAlert]:
        """The alerts that are pending or fire, by name."""
        query = select(open_alerts.c.state).where(open_alerts.c.loop == self._row_name(loop))
        return [OPEN_ALERT.validate_json(r.state) for r in await self._rows(query.order_by(open_alerts.c.alert))]

    async def silences(self, loop: str, now: datetime) -> list[Silence]:
        """The silences that have not ended, the one that ends first before the others."""
        of = silences.c.loop == self._row_name(loop), silences.c.until > time_text(now)
        rows = await self._rows(select(silences).where(*of).order_by(silences.c.until))
        return [silence_of(row, loop) for row in rows]

    async def series(self, loop: str, limit: int) -> list[dict[str, Any]]:
        """The last `limit` points of the curves, oldest first."""
        of_loop = points.c.loop == self._row_name(loop)
        rows = await self._rows(select(points).where(of_loop).order_by(points.c.outcomes.desc()).limit(limit))
        return [{k: v for k, v in row._mapping.items() if k != "loop"} for row in reversed(rows)]

    async def _rows(self, query: Any) -> Sequence[Row[Any]]:
        async with self._database.reading() as reader:
            return (await reader.execute(query)).all()
