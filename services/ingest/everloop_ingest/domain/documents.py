"""Reads a body into its entries: JSON, NDJSON and CloudEvents 1.0 (structured and batch), strictly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from everloop_ingest.errors import BrokenBody, NothingSent, TooMuch
from everloop_shared.errors import FieldError

JSON = "application/json"
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
CLOUDEVENT = "application/cloudevents+json"
CLOUDEVENTS = "application/cloudevents-batch+json"
CONTENT_TYPES = (JSON, NDJSON[0], CLOUDEVENT, CLOUDEVENTS)


@dataclass(frozen=True)
class Limits:
    """How many entries a request may have, and how many bytes an entry."""

    entries: int
    entry_bytes: int


@dataclass(frozen=True)
class Entry:
    """One entry of a request: its value as sent, or what keeps it from being read."""

    value: Any = None
    wrong: tuple[FieldError, ...] = ()
    traceparent: str | None = None
    cloudevent: bool = False


def read(content_type: str, body: bytes, limits: Limits) -> list[Entry]:
    """The entries of a body whose content type (without parameters) is one of CONTENT_TYPES.

    Raises BrokenBody, NothingSent, TooMuch. A broken NDJSON line spoils only itself.
    """
    if content_type in NDJSON:
        entries = _lines(body, limits)
    elif content_type == CLOUDEVENT:
        entries = [_cloudevent(_single(body, limits))]
    elif content_type == CLOUDEVENTS:
        entries = [_cloudevent(value) for value in _listed(_parsed(body))]
    else:
        value = _single(body, limits) if body.lstrip()[:1] == b"{" else _parsed(body)
        entries = [Entry(v) for v in (value if isinstance(value, list) else [value])]
    if not entries:
        raise NothingSent("there is nothing in the body; send an object, a list or lines of JSON")
    if len(entries) > limits.entries:
        raise TooMuch(f"{len(entries):,} entries, the limit is {limits.entries:,}; send smaller parts")
    return entries


def _lines(body: bytes, limits: Limits) -> list[Entry]:
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) > limits.entries:
        raise TooMuch(f"{len(lines):,} lines, the limit is {limits.entries:,}; send smaller parts")
    return [_line(line, limits) for line in lines]


def _line(line: bytes, limits: Limits) -> Entry:
    try:
        return Entry(_single(line, limits))
    except (BrokenBody, TooMuch) as e:
        return Entry(wrong=(FieldError("line", e.detail),))


def _single(body: bytes, limits: Limits) -> Any:
    if len(body) > limits.entry_bytes:
        raise TooMuch(f"the event has {len(body):,} bytes, the limit is {limits.entry_bytes:,}; send less in one event")
    return _parsed(body)


def _parsed(body: bytes) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as e:
        raise BrokenBody(f"not JSON as of RFC 8259 in UTF-8: {e}") from e


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BrokenBody(f"{CLOUDEVENTS} is a list of CloudEvents; a single one is {CLOUDEVENT}")
    return value


def _cloudevent(value: Any) -> Entry:
    if not isinstance(value, dict):
        return Entry(wrong=(FieldError("body", "must be a CloudEvent, an object"),))
    wrong = [
        FieldError(name, "is missing; CloudEvents 1.0 needs it as text")
        for name in ("id", "source", "type")
        if not isinstance(value.get(name), str) or not value[name]
    ]
    if value.get("specversion") != "1.0":
        wrong.append(FieldError("specversion", 'must be "1.0"'))
    if value.get("datacontenttype", JSON) != JSON or "data_base64" in value:
        wrong.append(FieldError("datacontenttype", f"must be {JSON}, with the fields as an object in data"))
    trace = value.get("traceparent")
    return Entry(value, tuple(wrong), trace if isinstance(trace, str) else None, cloudevent=True)
