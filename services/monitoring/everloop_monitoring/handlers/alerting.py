"""Follows what alerts are about, record by record and as time passes, and says what is published and told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.alert_defaults import LabelPace, follow_labels, follow_quality
from everloop_monitoring.domain.alert_endings import (
    end_by_outcomes,
    end_by_time,
    find_recoveries,
    fire_due_rules,
    note_event,
)
from everloop_monitoring.domain.alert_signals import DEAD_LETTER_ALERT, signal_of_dead_letters
from everloop_monitoring.domain.alerts import AlertBook, Signal, Telling, with_alert
from everloop_monitoring.domain.erasure_alerts import fire_late_erasures
from everloop_monitoring.domain.events import build_alert
from everloop_monitoring.domain.objectives import ObjectivesWatch
from everloop_monitoring.domain.silences import silenced_names
from everloop_monitoring.domain.state import EvaluationState
from everloop_monitoring.domain.timeline import TimelineEntry, alert_entry
from everloop_monitoring.ports import AlertStore, Projections
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_schemas.monitoring import AlertRaised
from everloop_schemas.quantities import parse_duration_s
from everloop_schemas.registry import LoopState
from everloop_shared.clock import Clock

REPEAT = timedelta(hours=4)
LOOK_EVERY_OUTCOMES = 100
"""What is served is compared with the baselines once in so many."""
NO_LOOP = ""
"""The loop of dead letters that name none."""


class NewDeadLetters(NamedTuple):
    """Dead letters of a loop that a batch has counted, and the last of them."""

    n: int
    last: DeadLetter


class Evaluated(NamedTuple):
    """A loop's evaluation after `n` outcomes of a batch, and the id of the last of them."""

    state: EvaluationState
    n: int
    caused_by: str

    @property
    def is_due(self) -> bool:
        """Whether the outcomes have passed a multiple of `LOOK_EVERY_OUTCOMES`."""
        return self.state.outcomes // LOOK_EVERY_OUTCOMES != (self.state.outcomes - self.n) // LOOK_EVERY_OUTCOMES


News = Signal | NewDeadLetters | Event
"""What open alerts have to know of, in the order of the records."""


@dataclass
class Alerting:
    """Keeps the open alerts of all loops, in the open unit of work; those that go on are told again every `repeat`."""

    store: AlertStore
    projections: Projections
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
                after = evaluated[loop]
                end_by_outcomes(book, after.state, state, after.caused_by)
                if after.is_due:
                    follow_quality(book, after.state, state, after.caused_by, now)
        await self._count_recoveries(books, now)
        return await self._tell(books, now)

    async def look(self) -> tuple[list[Event], list[TimelineEntry]]:
        """End what time has ended, and tell again what goes on; to be called every few seconds."""
        now = self.clock()
        names = [*(state.loop for state in self.loops.all()), NO_LOOP]
        open_alerts, counts = await self.store.load_alerts(names), await self.store.count_labels(names)
        paces, changed = await self.store.load_paces(names), dict[str, LabelPace]()
        books = {loop: AlertBook({a.alert: a for a in open_alerts.get(loop, ())}) for loop in sorted(names)}
        for loop, book in books.items():
            state = self.loops.get(loop)
            end_by_time(book, state, now)
            if state is not None:
                fire_due_rules(book, state, now)
                fire_late_erasures(book, now)
                await self._follow_objectives(book, state, now)
            if loop in counts and (pace := follow_labels(book, loop, paces.get(loop), counts[loop], now)):
                changed[loop] = pace
        await self.store.save_paces(changed)
        await self._count_recoveries(books, now)
        return await self._tell({loop: book for loop, book in books.items() if book.is_in_use}, now, repeats=True)

    async def list_told(self) -> list[AlertRaised]:
        """The alerts that fire and that receivers were told of, as they are now, loop by loop."""
        names, now = [*(state.loop for state in self.loops.all()), NO_LOOP], self.clock()
        open_alerts = await self.store.load_alerts(names)
        return [
            build_alert(Telling(alert, "firing", alert.caused_by), loop, self.loops.get(loop), now)
            for loop in sorted(open_alerts)
            for alert in open_alerts[loop]
            if alert.state == "firing" and alert.told_at is not None
        ]

    async def _follow_objectives(self, book: AlertBook, state: LoopState, now: datetime) -> None:
        """Raise and end the alerts of the loop's objectives; those of a loop without any have been ended before."""
        if not ObjectivesWatch.is_on(state.data.spec):
            return
        [watch] = await self.projections.load_watches(state.loop, (ObjectivesWatch,), state.data.spec)
        assert isinstance(watch, ObjectivesWatch)
        if watch.expire(now):
            await self.projections.save_watches(state.loop, [watch])
        watch.follow_alerts(book, state.loop, now)

    async def _count_recoveries(self, books: Mapping[str, AlertBook], now: datetime) -> None:
        """Count drifts that are over, and those that have gone on for longer than the loop's objective."""
        for loop, book in books.items():
            state = self.loops.get(loop)
            objective = state.data.spec.monitor.objectives.recovered if state else None
            if state is None or objective is None:
                continue
            due = find_recoveries(book, parse_duration_s(objective.within), now)
            if due:
                [watch] = await self.projections.load_watches(loop, (ObjectivesWatch,), state.data.spec)
                assert isinstance(watch, ObjectivesWatch)
                for since in due:
                    watch.add_recovery(since, now)
                await self.projections.save_watches(loop, [watch])

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
