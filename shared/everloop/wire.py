"""The wire form of what the client sends and reads: pure, the same for the sync and the async client."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import uuid4

import httpx

from everloop.errors import EverloopHTTPError
from everloop.results import Accepted, Prediction, Rejected

PART = 500
"""Entries in one request; longer lists travel in parts."""
JSON = "application/json"
Entry = Mapping[str, Any]


def event(data: Entry, id: str | None = None, entity: str | None = None, time: str | datetime | None = None) -> Entry:
    """One observation; a made-up id is made here, so that sending again is the same event."""
    given = {"entity": entity, "time": stamp(time), "data": dict(data)}
    return {"id": id or str(uuid4())} | {k: v for k, v in given.items() if v is not None}


def identified(events: Iterable[Entry]) -> Iterator[Entry]:
    """Events of a list, each with an id."""
    for given in events:
        yield given if given.get("id") is not None else {**given, "id": str(uuid4())}


def words(id: str | Iterable[Any], time: str | datetime | None, **said: Any) -> Iterator[Any]:
    """One label or piece of feedback, or many; what is said beside a list is meant for each that says nothing else.

    Each has a key, made here: sent again it is the same event, and the same words later are another. No time is made
    up: without one they count as of their arrival.
    """
    common = {k: v for k, v in ({"time": stamp(time)} | said).items() if v is not None}
    for entry in [{"id": id}] if isinstance(id, str) else id:
        yield {"key": str(uuid4()), **common, **entry} if isinstance(entry, Mapping) else entry


def stamp(time: str | datetime | None) -> str | None:
    """RFC 3339; a datetime needs a time zone."""
    return time.isoformat() if isinstance(time, datetime) else time


def parts(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Lists of at most PART entries."""
    rest = iter(entries)
    while part := list(islice(rest, PART)):
        yield part


def encoded(body: Any) -> bytes:
    """Strict JSON; raises ValueError for NaN and infinity, which would be refused anyway."""
    return json.dumps(body, allow_nan=False, default=_plain).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "item"):
        return value.item()  # numpy's scalars
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def accepted(response: httpx.Response, first: int = 0, alone: bool = False) -> Accepted:
    """The answer of a door of ingest to entries from number `first` on.

    Raises EverloopHTTPError for a request that was refused as a whole, and for an entry that was sent `alone`.
    """
    if response.status_code in (202, 207):
        body = response.json()
        return Accepted(tuple(body["ids"]), _rejected(body, first))
    refused = http_error(response)
    if alone or not refused.rejected:
        raise refused
    return Accepted((), _rejected(response.json(), first))


def together(answers: Sequence[Accepted]) -> Accepted:
    """The answers to all parts as one."""
    return Accepted(tuple(i for a in answers for i in a.ids), tuple(r for a in answers for r in a.rejected))


def prediction(response: httpx.Response) -> Prediction:
    """The answer of serving; raises EverloopHTTPError."""
    if response.status_code != 200:
        raise http_error(response)
    body = response.json()
    known = {k: body[k] for k in ("id", "prediction", "version", "role", "probabilities", "features") if k in body}
    return Prediction(**known)


def http_error(response: httpx.Response) -> EverloopHTTPError:
    """The problem details of a refusal, as far as the body has any."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return EverloopHTTPError(response.status_code, response.reason_phrase, response.text[:200])
    return EverloopHTTPError(
        response.status_code,
        str(body.get("title", response.reason_phrase)),
        str(body.get("detail", "")),
        [(e["field"], e["error"]) for e in body.get("errors", ())],
        _rejected(body, 0),
    )


def _rejected(body: Mapping[str, Any], first: int) -> tuple[Rejected, ...]:
    return tuple(
        Rejected(first + r["index"], r["id"], tuple((e["field"], e["error"]) for e in r["errors"]))
        for r in body.get("rejected", ())
    )
