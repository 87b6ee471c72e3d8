"""Open alerts, the queue of receivers, and silences on SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_monitoring.adapters.row_names import OPEN_ALERT, RowNames, time_text, without_nul
from everloop_monitoring.domain.alert_defaults import LabelCounts, LabelPace
from everloop_monitoring.domain.alerts import OpenAlert
from everloop_monitoring.domain.silences import MAX_SILENCES, Silence
from everloop_monitoring.errors import TooManySilences
from everloop_monitoring.ports import AlertStore
from everloop_monitoring.tables import alert_queue, open_alerts, silences, totals, watches
from everloop_schemas.monitoring import AlertRaised
from everloop_shared.outbox import SqlUnitOfWork
from everloop_shared.sql_dialects import driver_sql, insert_into

PACE, PACE_KIND = TypeAdapter(LabelPace), "label_pace"
MAX_QUEUED = 10_000
"""The queue keeps the latest; what a receiver that is away has not taken by then is lost to it."""


class SqlAlertStore(AlertStore):
    """The rows of alerts in the open transaction of a unit of work."""

    def __init__(self, unit: SqlUnitOfWork, row_name: RowNames) -> None:
        self._unit, self._row_name = unit, row_name

    async def load_alerts(self, loops: Collection[str]) -> dict[str, list[OpenAlert]]:
        """One statement, without SQLAlchemy's work on it: it is one in each transaction. Writers are one at a time."""
        names = {self._row_name(loop): loop for loop in loops}
        found = defaultdict[str, list[OpenAlert]](list)
        connection, marks = self._connection(), ", ".join("?" * len(names))
        statement = f"SELECT loop, state FROM open_alerts WHERE loop IN ({marks}) ORDER BY alert"
        for row in await connection.exec_driver_sql(driver_sql(statement, connection.dialect.name), tuple(names)):
            found[names[row.loop]].append(OPEN_ALERT.validate_json(row.state))
        return dict(found)

    async def save_alerts(self, loop: str, changed: Sequence[OpenAlert], ended: Collection[str]) -> None:
        """Delete, then insert: there are few."""
        gone = [alert.alert for alert in changed] + list(ended)
        if not gone:
            return
        name = self._row_name(loop)
        of = open_alerts.c.loop == name, open_alerts.c.alert.in_([without_nul(alert) for alert in gone])
        await self._connection().execute(delete(open_alerts).where(*of))
        if changed:
            rows = [
                {"loop": name, "alert": without_nul(one.alert), "state": OPEN_ALERT.dump_json(one).decode()}
                for one in changed
            ]
            await self._connection().execute(insert(open_alerts), rows)

    async def queue_alerts(self, events: Sequence[AlertRaised]) -> None:
        """Append, and drop what is older than the latest `MAX_QUEUED`."""
        if not events:
            return
        rows = [{"loop": event.loop, "event": event.encode().decode()} for event in events]
        await self._connection().execute(insert(alert_queue), rows)
        newest = await self._connection().scalar(select(func.max(alert_queue.c.seq)))
        await self._connection().execute(delete(alert_queue).where(alert_queue.c.seq <= newest - MAX_QUEUED))

    async def count_labels(self, loops: Collection[str]) -> dict[str, LabelCounts]:
        """One statement."""
        names = {self._row_name(loop): loop for loop in loops}
        of = totals.c.loop.in_(list(names)), totals.c.kind.in_(("prediction", "outcome"))
        found = defaultdict[str, dict[str, int]](dict)
        for row in await self._connection().execute(select(totals).where(*of)):
            found[names[row.loop]][row.kind] = row.n
        return {loop: LabelCounts(n.get("prediction", 0), n.get("outcome", 0)) for loop, n in found.items()}

    async def load_paces(self, loops: Collection[str]) -> dict[str, LabelPace]:
        """One statement."""
        names = {self._row_name(loop): loop for loop in loops}
        of = watches.c.loop.in_(list(names)), watches.c.kind == PACE_KIND
        rows = await self._connection().execute(select(watches).where(*of))
        return {names[row.loop]: PACE.validate_json(row.state) for row in rows}

    async def save_paces(self, paces: Mapping[str, LabelPace]) -> None:
        """One statement; a pace is stored beside the states of watches."""
        if not paces:
            return
        rows = [
            {"loop": self._row_name(loop), "kind": PACE_KIND, "state": PACE.dump_json(pace).decode()}
            for loop, pace in paces.items()
        ]
        insert = insert_into(watches, self._connection().dialect.name)
        upsert = insert.on_conflict_do_update(
            index_elements=[watches.c.loop, watches.c.kind], set_={"state": insert.excluded.state}
        )
        await self._connection().execute(upsert, rows)

    async def load_silences(self, loops: Collection[str], now: datetime) -> list[Silence]:
        """Those that have ended are removed."""
        await self._connection().execute(delete(silences).where(silences.c.until <= time_text(now)))
        names = {self._row_name(loop): loop for loop in loops}
        rows = await self._connection().execute(select(silences).where(silences.c.loop.in_(list(names))))
        return [silence_of(row, names[row.loop]) for row in rows]

    async def add_silence(self, silence: Silence) -> None:
        """Insert; raises TooManySilences."""
        connection = self._connection()
        of_loop = silences.c.loop == self._row_name(silence.loop)
        stored = (await connection.execute(select(silences.c.id).where(of_loop))).all()
        if len(stored) >= MAX_SILENCES:
            raise TooManySilences(f"{silence.loop} has {MAX_SILENCES} silences; end one first")
        row = {
            "id": silence.id,
            "loop": self._row_name(silence.loop),
            "kind": silence.kind,
            "alert": silence.alert,
            "until": time_text(silence.until),
            "reason": silence.reason,
            "actor": silence.actor,
        }
        await connection.execute(insert(silences), [row])

    async def end_silence(self, loop: str, id: str) -> bool:
        """One statement."""
        of = silences.c.loop == self._row_name(loop), silences.c.id == id
        return (await self._connection().execute(delete(silences).where(*of))).rowcount > 0

    def _connection(self) -> AsyncConnection:
        return self._unit.connection


def silence_of(row: Row[Any], loop: str) -> Silence:
    """The silence of a row of a loop."""
    until = datetime.fromisoformat(row.until)
    return Silence(row.id, loop, until, row.reason, row.actor, row.kind, row.alert)
