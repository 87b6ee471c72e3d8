"""What the topics say of who did what: an entry for each request with the events it led to, and each other event."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from rich.table import Table

from everloop.cli import views
from everloop.cli.output import printable
from everloop_schemas.audit import RequestRecorded
from everloop_schemas.decision_chain import MALFORMED
from everloop_schemas.monitoring import DeadLetterSent
from everloop_schemas.registry import Decided
from everloop_schemas.search import SearchRequested
from everloop_schemas.tracking import RunLogged
from everloop_schemas.training import RunRequested
from everloop_shared.clock import read_time

AUDITED = (RequestRecorded, Decided, RunRequested, SearchRequested, DeadLetterSent, RunLogged)
TOPICS = tuple(cls.topic.name for cls in AUDITED)
REQUESTS = RequestRecorded.topic.name
UNKNOWN = {Decided.topic.name: "anonymous", RunLogged.topic.name: "anonymous"}
"""Who is taken for the actor of records that name none; the others are their service's own."""
MAX_ENTRIES = 10_000
WHY_CHARACTERS = 300
LEFT_OUT = "left_out"
"""The action of entries that stand for refusals without a record."""
NO_ANSWER = "no answer recorded"


class Entry(NamedTuple):
    """Who did what; `trace` is the trace id of the request (W3C Trace Context), `cause` the event that led to it.

    Of a request, `event` is the id that its records share, `led_to` names the events that it led to, `about` what these
    are about beside the loop, such as an entity, and `answer` is its status, None where none is recorded.
    `refused` is the code of a refusal. Other events have no `address`.
    """

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
    service: str = ""
    address: str | None = None
    request: str | None = None
    answer: int | None = None
    refused: str | None = None
    led_to: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    traceparent: str = ""

    @property
    def is_request(self) -> bool:
        """Whether this is a request, and no event by itself."""
        return self.address is not None

    def for_people(self) -> str:
        """What was answered to a request; nothing of an event."""
        if not self.is_request or self.action == LEFT_OUT:
            return ""
        return " ".join(filter(None, (str(self.answer or NO_ANSWER), self.refused)))

    def for_programs(self) -> dict[str, Any]:
        """The entry as plain data."""
        lists = {"led_to": list(self.led_to), "about": list(self.about)}
        plain = {**self._asdict(), "time": self.time.isoformat(), **lists}
        del plain["traceparent"]
        return plain


@dataclass(frozen=True)
class Wanted:
    """Which entries are asked for; None asks for all. `action` is one of the roles' matrix, or the name of an event."""

    loop: str | None = None
    since: datetime | None = None
    actor: str | None = None
    until: datetime | None = None
    action: str | None = None
    address: str | None = None
    refused: bool = False

    def has(self, entry: Entry) -> bool:
        """Whether an entry is one of them."""
        is_action, is_from = self.action in (None, entry.action), self.address in (None, entry.address)
        is_refused = not self.refused or entry.refused is not None or entry.action == LEFT_OUT
        return self.may_belong(entry) and is_action and is_from and is_refused

    def may_belong(self, entry: Entry) -> bool:
        """Whether an event may be what one of them led to."""
        is_after = self.since is None or entry.time >= self.since
        is_before = self.until is None or entry.time < self.until
        return is_after and is_before and self.loop in (None, entry.loop) and self.actor in (None, entry.actor)


class Entries:
    """The newest entries that are wanted, `MAX_ENTRIES` at most; a record that was published twice counts once.

    An event that a request led to is told with it: it has the trace, the service and the actor of the request, and came
    after it. `left_out` counts older entries, `strangers` records that are none of these events.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._requests, self._events = dict[str, Entry](), dict[tuple[str, str], Entry]()
        self.left_out = self.strangers = 0

    def add(self, topic: str, wire: bytes) -> None:
        """A record of one of `TOPICS`."""
        try:
            entry = _read_request(wire) if topic == REQUESTS else _read_event(topic, wire)
        except MALFORMED:
            self.strangers += 1
            return
        if entry.is_request:
            if self._wanted.has(entry):
                known = self._requests.get(entry.event)
                self._requests[entry.event] = entry if known is None else _joined(known, entry)
        elif self._wanted.may_belong(entry):
            self._events[topic, entry.event] = entry
        if max(len(self._requests), len(self._events)) >= 2 * MAX_ENTRIES:
            self._evict()

    def newest_last(self) -> list[Entry]:
        """The entries by time."""
        self._evict()
        found = [*self._requests.values(), *(one for one in self._events.values() if self._wanted.has(one))]
        ordered = sorted(found, key=lambda entry: entry.time)
        self.left_out += max(0, len(ordered) - MAX_ENTRIES)
        return ordered[-MAX_ENTRIES:]

    def _evict(self) -> None:
        self._fold()
        self._requests = self._newest(self._requests)
        self._events = self._newest(self._events)

    def _newest(self, kept: dict[Any, Entry]) -> dict[Any, Entry]:
        ordered = sorted(kept.items(), key=lambda item: item[1].time)
        self.left_out += sum(self._wanted.has(entry) for _, entry in ordered[:-MAX_ENTRIES])
        return dict(ordered[-MAX_ENTRIES:])

    def _fold(self) -> None:
        """Tell what requests led to with them."""
        by_trace = defaultdict[tuple[str, str, str], list[Entry]](list)
        for request in sorted(self._requests.values(), key=lambda entry: entry.time):
            by_trace[_origin(request)].append(request)
        for key, event in list(self._events.items()):
            before = [one.event for one in by_trace.get(_origin(event), ()) if one.time <= event.time]
            if before and event.traceparent:
                request = self._requests[before[-1]]
                led_to, why = (*request.led_to, event.action), request.why or event.why
                is_new = event.subject not in (event.loop, *request.about)
                about = (*request.about, event.subject) if is_new else request.about
                self._requests[before[-1]] = request._replace(led_to=led_to, why=why, about=about)
                del self._events[key]


def _origin(entry: Entry) -> tuple[str, str, str]:
    return entry.traceparent, entry.service, entry.actor


def _joined(one: Entry, other: Entry) -> Entry:
    """Two records of one request: when it came, and what was answered."""
    first, second = sorted((one, other), key=lambda entry: entry.time)
    answer = second.answer if first.answer is None else first.answer
    kept: dict[str, Any] = {"led_to": one.led_to, "about": one.about, "why": one.why}
    return first._replace(answer=answer, refused=first.refused or second.refused, **kept)


def _read_request(wire: bytes) -> Entry:
    record = RequestRecorded.decode(wire)
    data, why = record.data, ""
    if data.left_out:
        why = f"{data.left_out:,} more refusals of this address have no record"
    return Entry(
        **_common(record.time, record.loop, record.actor, record.traceparent),
        action=LEFT_OUT if data.phase == LEFT_OUT else data.action,
        subject=f"{data.method} {data.route}".strip(),
        actor_kind=record.actor_kind,
        actor_source=record.actor_source,
        cause=None,
        why=why,
        event=record.subject,
        service=record.source.removeprefix("everloop/"),
        address=data.address,
        request=data.request,
        answer=data.status,
        refused=data.refused,
    )


def _read_event(topic: str, wire: bytes) -> Entry:
    body = json.loads(wire)
    data, time = body["data"], read_time(body["time"])
    if time is None:
        raise ValueError(body["time"])
    about: Mapping[str, Any] = body if body.get("actor") else data  # a letter that was sent again has it inside
    actor = about.get("actor") or UNKNOWN.get(topic) or body["source"]
    return Entry(
        **_common(time, body["loop"], actor, body.get("traceparent")),
        action=str(body["type"]).split(".")[1],
        subject=str(body["subject"]),
        actor_kind=about.get("actor_kind"),
        actor_source=about.get("actor_source"),
        cause=body.get("causationid"),
        why=views.why(data)[:WHY_CHARACTERS],
        event=str(body["id"]),
        service=str(body["source"]).removeprefix("everloop/"),
    )


def _common(time: datetime, loop: object, actor: object, traceparent: str | None) -> dict[str, Any]:
    trace = (traceparent or "").split("-")
    known = {"trace": trace[1] if len(trace) > 1 else None, "traceparent": traceparent or ""}
    return {"time": time, "loop": str(loop), "actor": str(actor), **known}


def table_of(entries: Sequence[Entry]) -> Table:
    """The entries for people, a line each."""
    table = Table("time", "loop", "action", "about", "by", "from", "request", "answer", "why", box=None, pad_edge=False)
    for one in entries:
        by = " ".join(filter(None, (one.actor, one.actor_kind, one.actor_source)))
        action = ": ".join(filter(None, (one.action, ", ".join(one.led_to)))).replace("_", " ")
        request, address = one.request or one.trace or one.cause or "", one.address or ""
        row = (one.loop, action, " ".join((one.subject, *one.about)), by, address, request, one.for_people(), one.why)
        table.add_row(f"{one.time:%Y-%m-%dT%H:%M:%SZ}", *map(printable, row))
    return table
