"""What happens to a loop, as events, and the position of who has seen some of them: pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

RUN_REQUESTED, RUN_FINISHED = "run_requested", "run_finished"
MODEL_PROMOTED, DRIFT_DETECTED = "model_promoted", "drift_detected"
EVENTS = (RUN_REQUESTED, RUN_FINISHED, MODEL_PROMOTED, DRIFT_DETECTED)
OVERLAP = timedelta(minutes=10)
"""An event may be listed so much later than one with a later time; within it, events are known by their ids."""
MOST = 10_000
Payload = dict[str, Any]
"""`event`, `loop`, `id` (the same wherever it is read), `time` (RFC 3339) and `data`, as the service has it."""
Cursor = dict[str, Any]
"""A position, as JSON: `after`, a time or None, from which on events are new that are not among `seen`, their ids."""


class Asked(NamedTuple):
    """How an event is asked for: the method of the client, its options, and how its rows are read."""

    method: str
    options: Mapping[str, Any]
    read: Callable[[str, Iterable[Mapping[str, Any]]], Iterator[Payload]]


def fetch(client: Any, event: str, loop: str) -> Any:
    """The rows in which this event shows, of a client; to be awaited where it is the async one."""
    asked = _ASKED[event]
    return getattr(client, asked.method)(loop, **asked.options)


def read_events(event: str, loop: str, rows: Iterable[Mapping[str, Any]]) -> list[Payload]:
    """The events in these rows, oldest first."""
    return sorted(_ASKED[event].read(loop, rows), key=lambda found: _moment(found["time"]))


def from_time(moment: datetime | str | None) -> Cursor:
    """The position before everything that happened at this time or later; None is the very beginning."""
    return {"after": moment.isoformat() if isinstance(moment, datetime) else moment, "seen": []}


def behind(listed: list[Payload]) -> Cursor:
    """The position after all of these, by what is listed and not by a clock."""
    if not listed:
        return from_time(None)
    after = _moment(listed[-1]["time"]) - OVERLAP
    seen = [found["id"] for found in listed if _moment(found["time"]) >= after]
    return {"after": after.isoformat(), "seen": seen[-MOST:]}


def split_new(listed: list[Payload], cursor: Cursor) -> list[Payload]:
    """Those of the listed events that a position has not seen, oldest first."""
    after, seen = _moment(cursor["after"]) if cursor["after"] else None, set(cursor["seen"])
    return [f for f in listed if f["id"] not in seen and (after is None or _moment(f["time"]) >= after)]


def is_meant(found: Payload, where: Mapping[str, Any]) -> bool:
    """Whether the event's data has these values; a value that is None asks for nothing."""
    return all(found["data"].get(name) == value for name, value in where.items() if value is not None)


def check_event(event: str) -> str:
    """The event's name. Raises ValueError naming those that there are."""
    if event not in EVENTS:
        raise ValueError(f"event: {event!r} is none of {', '.join(EVENTS)}")
    return event


def _requested(loop: str, runs: Iterable[Mapping[str, Any]]) -> Iterator[Payload]:
    for run in runs:
        if run["state"] == "running":
            yield _payload(RUN_REQUESTED, loop, run["run"], run["requested"], run)


def _finished(loop: str, runs: Iterable[Mapping[str, Any]]) -> Iterator[Payload]:
    for run in runs:
        if run["finished"]:
            yield _payload(RUN_FINISHED, loop, run["run"], run["finished"], run)


def _promoted(loop: str, decisions: Iterable[Mapping[str, Any]]) -> Iterator[Payload]:
    for decision in decisions:
        if decision["type"] == "registry.model_promoted.v1":
            data = {**decision["data"], "sequence": decision["sequence"]}
            yield _payload(MODEL_PROMOTED, loop, decision["id"], decision["time"], data)


def _detected(loop: str, drifts: Iterable[Mapping[str, Any]]) -> Iterator[Payload]:
    for drift in drifts:
        data = {**drift["data"], "what": drift["what"], "why": drift["why"]}
        yield _payload(DRIFT_DETECTED, loop, drift["id"], drift["time"], data)


def _payload(event: str, loop: str, id: str, time: str, data: Mapping[str, Any]) -> Payload:
    return {"event": event, "loop": loop, "id": id, "time": time, "data": dict(data)}


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


_ASKED = {
    RUN_REQUESTED: Asked("runs", {}, _requested),
    RUN_FINISHED: Asked("runs", {}, _finished),
    MODEL_PROMOTED: Asked("history", {}, _promoted),
    DRIFT_DETECTED: Asked("drifts", {"limit": MOST, "early": True}, _detected),
}
