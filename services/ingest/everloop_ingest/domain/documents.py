"""Reads a body into its entries: JSON, NDJSON and CloudEvents 1.0 (structured, batch and binary), strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from everloop_ingest.errors import BrokenBody, NothingSent, TooMuch
from everloop_shared import strict_json
from everloop_shared.errors import FieldError
from everloop_shared.strict_json import is_json

JSON = "application/json"
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
CLOUDEVENT = "application/cloudevents+json"
CLOUDEVENTS = "application/cloudevents-batch+json"
CONTENT_TYPES = (JSON, NDJSON[0], CLOUDEVENT, CLOUDEVENTS)
ATTRIBUTES = ("specversion", "id", "source", "type", "subject", "time", "traceparent")
"""Of a CloudEvent, what is read here beside its data; in binary mode each is a header, `ce-id` and so on."""


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


def read(content_type: str, body: bytes, limits: Limits, headers: Mapping[str, str] | None = None) -> list[Entry]:
    """The entries of a body whose content type (without parameters) is JSON or one of CONTENT_TYPES.

    `headers`, in lower case, make it a CloudEvent in binary mode where they have a `ce-specversion`.
    Raises BrokenBody, NothingSent, TooMuch. A broken NDJSON line spoils only itself.
    """
    if content_type in NDJSON:
        entries = _lines(body, limits)
    elif content_type == CLOUDEVENT:
        entries = [_cloudevent(_single(body, limits))]
    elif content_type == CLOUDEVENTS:
        entries = [_cloudevent(value) for value in _listed(_parsed(body))]
    elif headers is not None and "ce-specversion" in headers:
        entries = [_cloudevent(_attributes(headers) | {"data": _single(body, limits)})]
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
        return strict_json.read(body)
    except strict_json.NotJson as e:
        raise BrokenBody(str(e)[:300]) from e


def _attributes(headers: Mapping[str, str]) -> dict[str, Any]:
    """A CloudEvent's attributes from the headers of binary mode, percent-decoded (HTTP binding 1.0, 3.1.3.2)."""
    found = {name: headers[f"ce-{name}"] for name in ATTRIBUTES if f"ce-{name}" in headers}
    try:
        decoded = {name: unquote(value, errors="strict") for name, value in found.items()}
    except UnicodeDecodeError as e:
        raise BrokenBody(f"a ce- header is not percent-encoded UTF-8: {e}") from e
    if wrong := [name for name, value in found.items() if not value.isascii()]:
        raise BrokenBody(f"the header ce-{wrong[0]} has characters beyond ASCII; percent-encode it, in UTF-8")
    if "traceparent" in headers:
        decoded.setdefault("traceparent", headers["traceparent"])
    return decoded


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
    kind = value.get("datacontenttype", JSON)
    if not isinstance(kind, str) or not is_json(kind.partition(";")[0].strip().lower()):
        wrong.append(FieldError("datacontenttype", f"must be {JSON} (or end in +json); send the fields as JSON"))
    if "data_base64" in value:
        wrong.append(FieldError("data_base64", "is not read here; send the fields as an object in data"))
    trace = value.get("traceparent")
    return Entry(value, tuple(wrong), trace if isinstance(trace, str) else None, cloudevent=True)
