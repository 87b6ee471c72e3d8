"""Follows what alerts are about, record by record and as time passes, and says what is published and told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.alert_endings import end_by_outcomes, end_by_time, note_event
from everloop_monitoring.domain.alert_signals import DEAD_LETTER_ALERT, signal_of_dead_letters
from everloop_monitoring.domain.alerts import AlertBook, Signal, Telling, with_alert
from everloop_monitoring.domain.events import build_alert
from everloop_monitoring.domain.silences import silenced_names
from everloop_monitoring.domain.state import EvaluationState
from everloop_monitoring.domain.timeline import TimelineEntry, alert_entry
from everloop_monitoring.ports import AlertStore
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_schemas.monitoring import AlertRaised
from everloop_shared.clock import Clock

REPEAT = timedelta(hours=4)
NO_LOOP = ""
"""The loop of dead letters that name none."""


class NewDeadLetters(NamedTuple):
    """Dead letters of a loop that a batch has counted, and the last of them."""

    n: int
    last: DeadLetter


class Evaluated(NamedTuple):
    """A loop's evaluation after a batch, and the id of its last outcome."""

    state: EvaluationState
    caused_by: str


News = Signal | NewDeadLetters | Event
"""What open alerts have to know of, in the order of the records."""


@dataclass
class Alerting:
    """Keeps the open alerts of all loops, in the open unit of work; those that go on are told again every `repeat`."""

    store: AlertStore
    loops: KnownLoops
    clock: Clock
    repeat: timedelta = REPEAT

    async def follow(
        self, news: Mapping[str, Sequence[News]], evaluated: Mapping[str, Evaluated]
    ) -> tuple[list[Event], list[TimelineEntry]]:
        """Add what a batch brought; the events to publish, and the entries for the timeline."""
        concerned = news.keys() | evaluated.keys()
        if not concerned:
            return [], []
        open_alerts, now = await self.store.load_alerts(sorted(concerned)), self.clock()
        books = {loop: AlertBook({a.alert: a for a in open_alerts.get(loop, ())}) for loop in sorted(concerned)}
        for loop, book in books.items():
            for one in news.get(loop, ()):
                _add(book, loop, one, now)
            state = self.loops.get(loop)
            if loop in evaluated and state is not None:
                end_by_outcomes(book, evaluated[loop].state, state, evaluated[loop].caused_by)
        return await self._tell(books, now)

    async def look(self) -> tuple[list[Event], list[TimelineEntry]]:
        """End what time has ended, and tell again what goes on; to be called every few seconds."""
        now = self.clock()
        names = [*(state.loop for state in self.loops.all()), NO_LOOP]
        open_alerts = await self.store.load_alerts(names)
        books = {loop: AlertBook({a.alert: a for a in alerts}) for loop, alerts in sorted(open_alerts.items())}
        for loop, book in books.items():
            end_by_time(book, self.loops.get(loop), now)
        return await self._tell(books, now, repeats=True)

    async def _tell(
        self, books: Mapping[str, AlertBook], now: datetime, *, repeats: bool = False
    ) -> tuple[list[Event], list[TimelineEntry]]:
        events, entries, queued = list[Event](), list[TimelineEntry](), list[AlertRaised]()
        silences = []
        if books and (repeats or any(book.tellings for book in books.values())):
            silences = await self.store.load_silences(books.keys(), now)
        for loop, book in books.items():
            affected = (*book.open.values(), *(t.alert for t in book.tellings))
            silenced = silenced_names(affected, (one for one in silences if one.loop == loop))
            if repeats:
                book.repeat(now, self.repeat, silenced)
            entries += book.entries
            for telling in book.tellings:
                event = build_alert(telling, loop, self.loops.get(loop), now)
                events.append(event)
                entries += _entries_of(telling, event)
                if _is_told(telling, silenced):
                    telling.alert.told_at = now
                    queued.append(event)
            changed = [book.open[name] for name in sorted(book.changed)]
            await self.store.save_alerts(loop, changed, book.ended)
        await self.store.queue_alerts(queued)
        return events, entries


def _add(book: AlertBook, loop: str, one: News, now: datetime) -> None:
    if isinstance(one, Signal):
        book.raise_alert(one, now)
    elif isinstance(one, NewDeadLetters):
        known = book.open.get(DEAD_LETTER_ALERT)
        book.raise_alert(signal_of_dead_letters(loop, one.last, known.count if known else 0, one.n), now)
    else:
        note_event(book, one)


def _entries_of(telling: Telling, event: AlertRaised) -> list[TimelineEntry]:
    if telling.state == "pending" or telling.repeats:
        return []
    return [with_alert(telling.entry or alert_entry(event), telling.alert, telling.state)]


def _is_told(telling: Telling, silenced: Collection[str]) -> bool:
    """Receivers are told what fires and is not silenced, and the end of what they were told."""
    if telling.state == "resolved":
        return telling.alert.told_at is not None
    return telling.state == "firing" and telling.alert.alert not in silenced
