"""Tells each receiver of alerts, in the order in which they were raised, at its own pace and at least once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

import sqlalchemy as sql

from everloop_monitoring.adapters.alert_store import MAX_QUEUED
from everloop_monitoring.adapters.receivers.config import ReceiverSpec
from everloop_monitoring.adapters.receivers.http import MessageRefused, ReceiverAway
from everloop_monitoring.adapters.receivers.message import MAX_ALERTS, Message, console_link
from everloop_monitoring.metrics import DELIVERED, LOST, RECEIVER_UP, UNDELIVERED
from everloop_monitoring.tables import alert_queue, receivers
from everloop_schemas.monitoring import AlertRaised
from everloop_shared.backoff import Backoff
from everloop_shared.clock import Clock, system_clock
from everloop_shared.database import Database
from everloop_shared.errors import ServiceError
from everloop_shared.outbox import SqlUnitOfWork

log = logging.getLogger(__name__)
POLL_S = 1.0
READ_ENTRIES = 200
TRIES_OF_REFUSED = 3
BACKOFF = Backoff(1.0, 300.0)


class Receiver(Protocol):
    """Sends messages to one receiver. One that forgets is told every so many seconds of what goes on."""

    @property
    def retold_every_s(self) -> float | None:
        """None for a receiver that forgets nothing."""

    async def send(self, message: Message) -> None:
        """Send a message; raises ReceiverAway, MessageRefused or Misconfigured."""

    async def close(self) -> None:
        """Close what is open."""


class _Group(NamedTuple):
    """The next alerts that are told together, which may be none, and the position after them."""

    alerts: list[AlertRaised]
    position: int
    waiting: int
    missing: int


class Delivery:
    """A background job. A receiver that is away delays no other, and nothing else: its entries wait in the database.

    A receiver that is new begins with the next alert, so that those of a rebuilt database are not told again. A
    message that is refused is tried three times, then logged, counted and left out. `list_told` gives, within the
    unit of work, what was told and goes on, for receivers that forget.
    """

    def __init__(
        self,
        specs: Sequence[ReceiverSpec],
        senders: Mapping[str, Receiver],
        database: Database,
        unit: SqlUnitOfWork,
        list_told: Callable[[], Awaitable[Sequence[AlertRaised]]],
        caught_up: Callable[[float], Awaitable[bool]],
        url: str = "",
        gather_s: float = 0.0,
        backoff: Backoff = BACKOFF,
        poll_s: float = POLL_S,
        clock: Clock = system_clock,
    ) -> None:
        self._specs, self._senders = specs, senders
        self._database, self._unit, self._caught_up, self._list_told = database, unit, caught_up, list_told
        self._url, self._gather_s, self._backoff = url, gather_s, backoff
        self._poll_s, self._clock = poll_s, clock
        self._away: dict[str, str] = {}
        self._retell_at: dict[str, float] = {}

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            await asyncio.gather(*(self._serve(spec) for spec in self._specs))
        finally:
            for sender in self._senders.values():
                await sender.close()

    def remarks(self) -> list[str]:
        """What people should know: who cannot be told, and why."""
        return [f"receiver {name} is not told of alerts: {reason}" for name, reason in sorted(self._away.items())]

    async def _serve(self, spec: ReceiverSpec) -> None:
        failures = refusals = 0
        while True:
            try:
                moved = await self._deliver_next(spec, drop=refusals >= TRIES_OF_REFUSED)
                if not moved:
                    await self._retell(spec)
                failures = refusals = 0
                self._away.pop(spec.name, None)
                RECEIVER_UP.labels(spec.name).set(1)
                pause_s = 0.0 if moved else self._poll_s
            except Exception as e:  # whatever it is, monitoring goes on
                failures += 1
                refusals += isinstance(e, MessageRefused)
                pause_s = max(self._backoff.pause_s(failures), getattr(e, "retry_after_s", 0.0))
                self._note_failure(spec.name, e, pause_s)
            await asyncio.sleep(pause_s)

    def _note_failure(self, name: str, error: Exception, pause_s: float) -> None:
        known = isinstance(error, ReceiverAway | MessageRefused | ServiceError)
        reason = str(error)[:300] if known else type(error).__name__
        self._away[name] = reason
        RECEIVER_UP.labels(name).set(0)
        fields = {"receiver": name, "reason": reason, "again_in_s": round(pause_s, 1)}
        log.warning("a receiver is not told of alerts", extra=fields, exc_info=None if known else error)

    async def _deliver_next(self, spec: ReceiverSpec, drop: bool) -> bool:
        """Deliver the next message, or leave it out; whether the position has moved."""
        async with self._database.alone(f"deliver-{spec.name}"):
            position = await self._position(spec.name)
            group = None if position is None else await self._next_group(spec, position)
            if group is None or group.position == position:
                return False
            UNDELIVERED.labels(spec.name).set(group.waiting)
            LOST.labels(spec.name, "overrun").inc(group.missing)
            if group.alerts and drop:
                LOST.labels(spec.name, "refused").inc(len(group.alerts))
                fields = {"receiver": spec.name, "alerts": [alert.id for alert in group.alerts]}
                log.error("a receiver refuses alerts, which are left out", extra=fields)
            elif group.alerts:
                await self._send(spec, group.alerts)
                DELIVERED.labels(spec.name).inc(len(group.alerts))
            await self._move(spec.name, group.position)
        UNDELIVERED.labels(spec.name).set(group.waiting - len(group.alerts))
        return True

    async def _send(self, spec: ReceiverSpec, alerts: Sequence[AlertRaised]) -> None:
        """Send alerts of one loop as one message."""
        loop = alerts[0].loop
        await self._senders[spec.name].send(Message(loop, alerts, console_link(self._url, loop)))

    async def _retell(self, spec: ReceiverSpec) -> None:
        """Send what was told and goes on, if it is time to; not before the receiver has a position."""
        every_s, now = self._senders[spec.name].retold_every_s, time.monotonic()
        if every_s is None or now < self._retell_at.get(spec.name, 0.0):
            return
        async with self._database.alone(f"deliver-{spec.name}"):
            if await self._position(spec.name) is None or not await self._caught_up(self._poll_s):
                return
            async with self._unit:
                told = [alert for alert in await self._list_told() if spec.takes(alert)]
            for _, group in groupby(told, key=lambda alert: alert.loop):
                alerts = list(group)
                for start in range(0, len(alerts), MAX_ALERTS):
                    await self._send(spec, alerts[start : start + MAX_ALERTS])
        self._retell_at[spec.name] = now + every_s

    async def _position(self, name: str) -> int | None:
        """How far the receiver has come; None for a new one until monitoring has caught up with the log."""
        async with self._database.reading() as reader:
            found: int | None = await reader.scalar(sql.select(receivers.c.position).where(receivers.c.name == name))
            if found is not None:
                return found
            newest = await reader.scalar(sql.select(sql.func.max(alert_queue.c.seq)))
        if await self._caught_up(self._poll_s):
            async with self._unit:
                row = {"name": name, "position": newest or 0}
                await self._unit.connection.execute(sql.insert(receivers), [row])
        return None

    async def _next_group(self, spec: ReceiverSpec, position: int) -> _Group | None:
        """The next alerts of one loop that the receiver takes; None where there is nothing, or more may follow soon."""
        query = sql.select(alert_queue).where(alert_queue.c.seq > position).order_by(alert_queue.c.seq)
        async with self._database.reading() as reader:
            rows = (await reader.execute(query.limit(READ_ENTRIES))).all()
        if not rows:
            return None
        alerts, end, waiting = list[AlertRaised](), position, 0
        is_whole = False
        for row in rows:
            event = AlertRaised.decode(row.event.encode())
            taken = spec.takes(event)
            waiting += taken
            if taken and alerts and (event.loop != alerts[0].loop or len(alerts) == MAX_ALERTS):
                is_whole = True
            if not is_whole:
                end = row.seq
                if taken:
                    alerts.append(event)
        if alerts and not is_whole and self._is_recent(alerts[0]):
            return None
        return _Group(alerts, end, waiting, await self._count_missing(position, rows[0].seq))

    async def _count_missing(self, position: int, oldest: int) -> int:
        """How many entries were dropped before the receiver took them; PostgreSQL leaves out numbers at times."""
        if not position or oldest == position + 1:
            return 0
        async with self._database.reading() as reader:
            queued = await reader.scalar(sql.select(sql.func.count()).select_from(alert_queue))
        return oldest - position - 1 if (queued or 0) >= MAX_QUEUED else 0

    def _is_recent(self, alert: AlertRaised) -> bool:
        return (self._clock() - alert.time).total_seconds() < self._gather_s

    async def _move(self, name: str, position: int) -> None:
        moved = sql.update(receivers).where(receivers.c.name == name).values(position=position)
        async with self._unit:
            await self._unit.connection.execute(moved)
