"""The open alerts of one loop: what raises them, when they are told, and when they are over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from everloop_monitoring.domain.timeline import Severity, TimelineEntry
from everloop_schemas.monitoring import AlertKind
from everloop_shared.errors import cut

OpenState = Literal["pending", "firing"]
MAX_OPEN = 100
"""The most open alerts of a loop; a further one ends the one that has been quiet for longest."""
MAX_EVIDENCE, MAX_EVIDENCE_CHARACTERS, MAX_TEXT_CHARACTERS = 10, 300, 500
MAX_NAME_CHARACTERS = 160
DRIFT_ALERT = "drift"
"""The name of the alert about a drift of the served error."""
RULE_ALERT = "rule."
"""The names of alerts of the loop's own rules begin with this."""
RANKS: dict[Severity, int] = {"info": 0, "warning": 1, "critical": 2}


@dataclass(frozen=True)
class Signal:
    """Something that an alert is about has happened, in the event with the id `caused_by`.

    `alert` names the alert. `about` holds what its end is recognised by, `entry` what the timeline says of it, `count`
    how many times it happened. A `pending` signal opens an alert that is not told to receivers yet.
    """

    alert: str
    kind: AlertKind
    severity: Severity
    message: str
    caused_by: str
    evidence: tuple[str, ...] = ()
    cause: str | None = None
    runbook: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    entry: TimelineEntry | None = None
    count: int = 1
    pending: bool = False


@dataclass(slots=True)
class OpenAlert:
    """An alert that is not over. `told_at` is when it was told last, None for one that never was, as a silenced one.

    `last` is the latest signal's time, `count` the number of what it is about, `tellings` how often it was published.
    """

    alert: str
    kind: AlertKind
    severity: Severity
    message: str
    state: OpenState
    since: datetime
    last: datetime
    caused_by: str
    evidence: tuple[str, ...] = ()
    cause: str | None = None
    runbook: str | None = None
    about: dict[str, Any] = field(default_factory=dict)
    count: int = 1
    tellings: int = 0
    told_at: datetime | None = None


@dataclass(frozen=True)
class Telling:
    """A change that is published: the alert as it is now, its new state, and the id of the event behind it.

    `why` says how a resolved alert came to its end. A telling that `repeats` is of a state that was told before.
    """

    alert: OpenAlert
    state: Literal["pending", "firing", "resolved"]
    caused_by: str
    why: str = ""
    entry: TimelineEntry | None = None
    repeats: bool = False


@dataclass
class AlertBook:
    """The open alerts of a loop by name, with what one batch of records, or the passing of time, changes in them."""

    open: dict[str, OpenAlert]
    changed: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    tellings: list[Telling] = field(default_factory=list)
    entries: list[TimelineEntry] = field(default_factory=list)

    @property
    def is_in_use(self) -> bool:
        """Whether there is anything in it, or to be told or stored."""
        return bool(self.open or self.ended or self.tellings)

    def raise_alert(self, signal: Signal, now: datetime) -> None:
        """Open an alert, or add to the open one; it is told when it begins, fires, or becomes graver."""
        name = cut(signal.alert, MAX_NAME_CHARACTERS)
        known = self.open.get(name)
        state: OpenState = "pending" if signal.pending else "firing"
        fresh = _open(name, signal, state, now)
        is_news = known is None or known.state != state or RANKS[fresh.severity] > RANKS[known.severity]
        if known is not None:
            fresh.since, fresh.count = known.since, known.count + fresh.count
            if known.state == "firing":
                fresh.state = "firing"
                fresh.severity = max(known.severity, fresh.severity, key=RANKS.__getitem__)
                is_news = fresh.severity != known.severity
            fresh.tellings, fresh.told_at, fresh.about = known.tellings, known.told_at, known.about | fresh.about
        elif len(self.open) >= MAX_OPEN:
            self._make_room(signal.caused_by)
        self.open[name] = fresh
        self.changed.add(name)
        self.ended.discard(name)
        if is_news:
            self._tell(Telling(fresh, fresh.state, signal.caused_by, entry=signal.entry))
        elif signal.entry is not None:
            self.entries.append(with_alert(signal.entry, fresh, "firing"))

    def fire(self, name: str) -> None:
        """A pending alert fires, because time has passed."""
        alert = self.open[name]
        alert.state = "firing"
        self.changed.add(name)
        self._tell(Telling(alert, "firing", alert.caused_by))

    def end(self, name: str, why: str, caused_by: str) -> None:
        """An alert is over: it is told where it had fired, and forgotten where it was pending."""
        alert = self.open.pop(name, None)
        if alert is None:
            return
        self.changed.discard(name)
        self.ended.add(name)
        if alert.state == "firing":
            self._tell(Telling(alert, "resolved", caused_by, cut(why, MAX_TEXT_CHARACTERS)))

    def amend(self, name: str, **about: Any) -> None:
        """Add to what an open alert is about."""
        if (alert := self.open.get(name)) is not None:
            alert.about = alert.about | about
            self.changed.add(name)

    def repeat(self, now: datetime, every: timedelta, silenced: Iterable[str]) -> None:
        """Tell those again that fire, are not silenced or told just now, and were told longer ago than `every`."""
        quiet = {*silenced, *(telling.alert.alert for telling in self.tellings)}
        for name, alert in self.open.items():
            due = alert.told_at is None or now - alert.told_at >= every
            if alert.state == "firing" and due and name not in quiet:
                self._tell(Telling(alert, "firing", alert.caused_by, repeats=alert.tellings > 0))
                self.changed.add(name)

    def _make_room(self, caused_by: str) -> None:
        oldest = min(self.open.values(), key=lambda alert: (RANKS[alert.severity], alert.last))
        self.end(oldest.alert, f"it makes room: a loop has {MAX_OPEN} open alerts at most", caused_by)

    def _tell(self, telling: Telling) -> None:
        telling.alert.tellings += 1
        self.tellings.append(telling)


def with_alert(entry: TimelineEntry, alert: OpenAlert, state: str) -> TimelineEntry:
    """The entry with the alert that it belongs to in its data."""
    about = {
        "alert": alert.alert,
        "state": state,
        "since": alert.since.isoformat(),
        "evidence": list(alert.evidence),
        "cause": alert.cause,
        "runbook": alert.runbook,
    }
    return TimelineEntry(entry.id, entry.loop, entry.kind, entry.time, entry.what, entry.why, entry.data | about)


def _open(name: str, signal: Signal, state: OpenState, now: datetime) -> OpenAlert:
    return OpenAlert(
        alert=name,
        kind=signal.kind,
        severity=signal.severity,
        message=cut(signal.message, MAX_TEXT_CHARACTERS),
        state=state,
        since=now,
        last=now,
        caused_by=signal.caused_by,
        evidence=tuple(cut(one, MAX_EVIDENCE_CHARACTERS) for one in signal.evidence[:MAX_EVIDENCE]),
        cause=signal.cause and cut(signal.cause, MAX_TEXT_CHARACTERS),
        runbook=signal.runbook and cut(signal.runbook, MAX_TEXT_CHARACTERS),
        about=dict(signal.about),
        count=signal.count,
    )
