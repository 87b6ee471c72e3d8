"""The wire form of what the client sends and reads: pure, the same for the sync and the async client."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx

from everloop.errors import EverloopHTTPError, LoopNameWrong
from everloop.results import Accepted, Prediction, Rejected
from everloop_schemas.names import LOOP_NAME_RULE, is_loop_name

PART, PART_BYTES = 500, 4_000_000
"""Entries and bytes in one request; longer lists travel in parts."""
JSON = "application/json"
Entry = Mapping[str, Any]


@dataclass
class Part:
    """Entries of one request, as JSON and by their index in the whole; and those that have no form in JSON."""

    texts: list[bytes] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def body(self, alone: bool) -> bytes:
        """The request."""
        return self.texts[0] if alone else b"[" + b",".join(self.texts) + b"]"


def path(loop: str, door: str = "") -> str:
    """The address of a loop, or of a door of it; raises LoopNameWrong."""
    if not is_loop_name(loop):
        raise LoopNameWrong(f"loop: {str(loop)[:80]!r} {LOOP_NAME_RULE}")
    return f"/v1/loops/{loop}/{door}" if door else f"/v1/loops/{loop}"


def event(data: Entry, id: str | None = None, entity: str | None = None, time: str | datetime | None = None) -> Entry:
    """One observation; a made-up id is made here, so that sending again is the same event."""
    given = {"entity": entity, "time": stamp(time), "data": dict(data)}
    return {"id": str(uuid4()) if id is None else id} | {k: v for k, v in given.items() if v is not None}


def identified(events: Iterable[Any]) -> Iterator[Any]:
    """Events of a list, each with an id."""
    for given in events:
        without = isinstance(given, Mapping) and given.get("id") is None
        yield {**given, "id": str(uuid4())} if without else given


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


def parts(entries: Iterable[Any]) -> Iterator[Part]:
    """The entries, at most PART and about PART_BYTES in each request; those without a form in JSON are named."""
    part, size = Part(), 0
    for index, entry in enumerate(entries):
        try:
            text = encoded(entry)
        except EverloopHTTPError as e:
            given = entry.get("id") if isinstance(entry, Mapping) else None
            part.rejected.append(Rejected(index, given if isinstance(given, str) else None, e.errors))
            continue
        if part.texts and (len(part.texts) == PART or size + len(text) > PART_BYTES):
            yield part
            part, size = Part(), 0
        part.texts.append(text)
        part.indexes.append(index)
        size += len(text)
    if part.texts or part.rejected:
        yield part


def encoded(body: Any) -> bytes:
    """Strict JSON. What has no form in it is refused as the door would: raises EverloopHTTPError, with its path."""
    try:
        return json.dumps(body, allow_nan=False, ensure_ascii=False, default=_plain).encode()
    except (ValueError, TypeError, RecursionError) as e:
        where, why = _unfit(body) or ("body", str(e)[:200])
        raise EverloopHTTPError(422, "Unprocessable input", f"{where}: {why}", [(where, why)]) from e


def refusal(rejected: Rejected) -> EverloopHTTPError:
    """An entry that cannot even be sent, as the error of a request of its own."""
    where, why = rejected.errors[0]
    return EverloopHTTPError(422, "Unprocessable input", f"{where}: {why}", rejected.errors)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime) and value == value:  # pandas' NaT calls itself a datetime, and equals nothing
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if getattr(value, "shape", None) == () and type(value).__name__ != "datetime64":
        return value.item()  # numpy's scalars
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _unfit(value: Any, where: str = "", depth: int = 0) -> tuple[str, str] | None:
    """Where in a value, and why, there is something without a form in JSON; None where it is not to be told."""
    if depth > 20:
        return where or "body", "is nested too deep, or holds itself"
    if isinstance(value, Mapping | list | tuple):
        inside = value.items() if isinstance(value, Mapping) else enumerate(value)
        found = (_unfit(v, f"{where}.{k}"[:200].lstrip("."), depth + 1) for k, v in inside)
        return next(filter(None, found), None)
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False, default=_plain).encode()
    except UnicodeEncodeError:
        return where or "body", "is text that is not Unicode"
    except (ValueError, TypeError, RecursionError):
        missing = (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in ("NaTType", "NAType")
        hint = "is missing (NaN): leave it out, or send None" if missing else f"is {str(value)[:40]!r} ({_kind(value)})"
        return where or "body", f"{hint}; JSON has no form for it"
    return None


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")[:80]


def accepted(response: httpx.Response, indexes: Sequence[int], alone: bool = False) -> Accepted:
    """The answer of a door of ingest to the entries with these indexes.

    Raises EverloopHTTPError for a request that was refused as a whole, and for an entry that was sent `alone`.
    """
    if response.status_code in (202, 207):
        body = response.json()
        return Accepted(tuple(body["ids"]), _rejected(body, indexes))
    refused = http_error(response)
    if alone or not refused.rejected:
        raise refused
    return Accepted((), _rejected(response.json(), indexes))


def together(answers: Sequence[Accepted]) -> Accepted:
    """The answers to all parts as one."""
    rejected = sorted((r for a in answers for r in a.rejected), key=lambda r: r.index)
    return Accepted(tuple(i for a in answers for i in a.ids), tuple(rejected))


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
        _rejected(body),
    )


def _rejected(body: Mapping[str, Any], indexes: Sequence[int] | None = None) -> tuple[Rejected, ...]:
    return tuple(
        Rejected(
            r["index"] if indexes is None else indexes[r["index"]],
            r["id"],
            tuple((e["field"], e["error"]) for e in r["errors"]),
        )
        for r in body.get("rejected", ())
    )
