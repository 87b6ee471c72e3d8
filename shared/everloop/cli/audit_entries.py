"""What the topics say of who did what: an entry for each decision, request, letter sent again and experiment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from rich.table import Table

from everloop.cli import views
from everloop.cli.output import printable
from everloop_schemas.decision_chain import MALFORMED
from everloop_schemas.monitoring import DeadLetterSent
from everloop_schemas.registry import Decided
from everloop_schemas.search import SearchRequested
from everloop_schemas.tracking import RunLogged
from everloop_schemas.training import RunRequested
from everloop_shared.clock import read_time

AUDITED = (Decided, RunRequested, SearchRequested, DeadLetterSent, RunLogged)
TOPICS = tuple(cls.topic.name for cls in AUDITED)
UNKNOWN = {Decided.topic.name: "anonymous", RunLogged.topic.name: "anonymous"}
"""Who is taken for the actor of records that name none; the others are their service's own."""
MAX_ENTRIES = 10_000
WHY_CHARACTERS = 300


class Entry(NamedTuple):
    """Who did what; `trace` is the trace id of the request (W3C Trace Context), `cause` the event that led to it."""

    time: datetime
    loop: str
    action: str
    subject: str
    actor: str
    actor_kind: str | None
    actor_source: str | None
    trace: str | None
    cause: str | None
    why: str
    event: str


@dataclass(frozen=True)
class Wanted:
    """Which entries are asked for; None asks for all."""

    loop: str | None = None
    since: datetime | None = None
    actor: str | None = None

    def has(self, entry: Entry) -> bool:
        """Whether an entry is one of them."""
        is_of_loop, is_by = self.loop in (None, entry.loop), self.actor in (None, entry.actor)
        return is_of_loop and is_by and (self.since is None or entry.time >= self.since)


class Entries:
    """The newest entries that are wanted, `MAX_ENTRIES` at most; a record that was published twice counts once.

    `left_out` counts older ones, `strangers` records that are none of these events.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted, self._kept = wanted, dict[tuple[str, str], Entry]()
        self.left_out = self.strangers = 0

    def add(self, topic: str, wire: bytes) -> None:
        """A record of one of `TOPICS`."""
        try:
            entry = _read(topic, wire)
        except MALFORMED:
            self.strangers += 1
            return
        if self._wanted.has(entry):
            self._kept[topic, entry.event] = entry
        if len(self._kept) >= 2 * MAX_ENTRIES:
            self._evict()

    def newest_last(self) -> list[Entry]:
        """The entries by time."""
        self._evict()
        return list(self._kept.values())

    def _evict(self) -> None:
        ordered = sorted(self._kept.items(), key=lambda item: item[1].time)
        self.left_out += max(0, len(ordered) - MAX_ENTRIES)
        self._kept = dict(ordered[-MAX_ENTRIES:])


def _read(topic: str, wire: bytes) -> Entry:
    body = json.loads(wire)
    data, trace = body["data"], (body.get("traceparent") or "").split("-")
    time = read_time(body["time"])
    if time is None:
        raise ValueError(body["time"])
    actor = body.get("actor") or data.get("actor") or UNKNOWN.get(topic) or body["source"]
    return Entry(
        time,
        str(body["loop"]),
        str(body["type"]).split(".")[1],
        str(body["subject"]),
        str(actor),
        body.get("actor_kind"),
        body.get("actor_source"),
        trace[1] if len(trace) > 1 else None,
        body.get("causationid"),
        views.why(data)[:WHY_CHARACTERS],
        str(body["id"]),
    )


def table_of(entries: Sequence[Entry]) -> Table:
    """The entries for people, a line each."""
    table = Table("time", "loop", "action", "about", "by", "request", "why", box=None, pad_edge=False)
    for one in entries:
        by = " ".join(filter(None, (one.actor, one.actor_kind, one.actor_source)))
        action, request = one.action.replace("_", " "), one.trace or one.cause or ""
        row = (f"{one.time:%Y-%m-%dT%H:%M:%SZ}", one.loop, action, one.subject, by, request, one.why)
        table.add_row(*map(printable, row))
    return table
