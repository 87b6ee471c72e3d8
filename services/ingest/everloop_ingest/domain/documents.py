"""Reads a body into its entries: JSON, NDJSON and CloudEvents 1.0 (structured, batch and binary), strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from everloop_ingest.errors import EmptyRequest, MalformedBody, RequestTooLarge
from everloop_shared import strict_json
from everloop_shared.errors import FieldError
from everloop_shared.strict_json import NDJSON, is_json

JSON = "application/json"
CLOUDEVENT = "application/cloudevents+json"
CLOUDEVENTS = "application/cloudevents-batch+json"
CONTENT_TYPES = (JSON, NDJSON[0], CLOUDEVENT, CLOUDEVENTS)
ATTRIBUTES = ("specversion", "id", "source", "type", "subject", "time", "traceparent")
"""The attributes of a CloudEvent that are read beside its data; in binary mode each is a header, such as `ce-id`."""


@dataclass(frozen=True)
class RequestLimits:
    """The number of entries of a request, and the bytes of one entry, at most."""

    entries: int
    entry_bytes: int


@dataclass(frozen=True)
class Entry:
    """One entry of a request: its value as sent, or the errors that prevented reading it."""

    value: Any = None
    errors: tuple[FieldError, ...] = ()
    traceparent: str | None = None
    cloudevent: bool = False


def read_entries(
    content_type: str, body: bytes, limits: RequestLimits, headers: Mapping[str, str] | None = None
) -> list[Entry]:
    """The entries of a body whose content type (without parameters) is JSON or one of CONTENT_TYPES.

    With a header `ce-specversion` (names in lower case) it is a CloudEvent in binary mode.
    Raises MalformedBody, EmptyRequest, RequestTooLarge. A malformed NDJSON line affects only its own entry.
    """
    if content_type in NDJSON:
        entries = _read_lines(body, limits)
    elif content_type == CLOUDEVENT:
        entries = [_read_cloudevent(_parse_entry(body, limits))]
    elif content_type == CLOUDEVENTS:
        entries = [_read_cloudevent(value) for value in _as_list(_parse(body))]
    elif headers is not None and "ce-specversion" in headers:
        entries = [_read_cloudevent(_binary_attributes(headers) | {"data": _parse_entry(body, limits)})]
    else:
        value = _parse_entry(body, limits) if body.lstrip()[:1] == b"{" else _parse(body)
        entries = [Entry(v) for v in (value if isinstance(value, list) else [value])]
    if not entries:
        raise EmptyRequest("the body contains nothing; send an object, a list or lines of JSON")
    if len(entries) > limits.entries:
        raise RequestTooLarge(f"{len(entries):,} entries, the limit is {limits.entries:,}; send smaller requests")
    return entries


def _read_lines(body: bytes, limits: RequestLimits) -> list[Entry]:
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) > limits.entries:
        raise RequestTooLarge(f"{len(lines):,} lines, the limit is {limits.entries:,}; send smaller requests")
    return [_read_line(line, limits) for line in lines]


def _read_line(line: bytes, limits: RequestLimits) -> Entry:
    try:
        return Entry(_parse_entry(line, limits))
    except (MalformedBody, RequestTooLarge) as e:
        return Entry(errors=(FieldError("line", e.detail),))


def _parse_entry(body: bytes, limits: RequestLimits) -> Any:
    if len(body) > limits.entry_bytes:
        raise RequestTooLarge(f"the event has {len(body):,} bytes, the limit is {limits.entry_bytes:,}; send less data")
    return _parse(body)


def _parse(body: bytes) -> Any:
    try:
        return strict_json.read(body)
    except strict_json.NotJson as e:
        raise MalformedBody(str(e)[:300]) from e


def _binary_attributes(headers: Mapping[str, str]) -> dict[str, Any]:
    """The attributes of a CloudEvent in binary mode, percent-decoded (HTTP binding 1.0, 3.1.3.2)."""
    found = {name: headers[f"ce-{name}"] for name in ATTRIBUTES if f"ce-{name}" in headers}
    try:
        decoded = {name: unquote(value, errors="strict") for name, value in found.items()}
    except UnicodeDecodeError as e:
        raise MalformedBody(f"a ce- header is not percent-encoded UTF-8: {e}") from e
    if invalid := [name for name, value in found.items() if not value.isascii()]:
        raise MalformedBody(f"the header ce-{invalid[0]} has characters beyond ASCII; percent-encode it, in UTF-8")
    if "traceparent" in headers:
        decoded.setdefault("traceparent", headers["traceparent"])
    return decoded


def _as_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedBody(f"{CLOUDEVENTS} is a list of CloudEvents; a single one is {CLOUDEVENT}")
    return value


def _read_cloudevent(value: Any) -> Entry:
    if not isinstance(value, dict):
        return Entry(errors=(FieldError("body", "must be a CloudEvent, an object"),))
    errors = [
        FieldError(name, "is missing; CloudEvents 1.0 needs it as text")
        for name in ("id", "source", "type")
        if not isinstance(value.get(name), str) or not value[name]
    ]
    if value.get("specversion") != "1.0":
        errors.append(FieldError("specversion", 'must be "1.0"'))
    kind = value.get("datacontenttype", JSON)
    if not isinstance(kind, str) or not is_json(kind.partition(";")[0].strip().lower()):
        errors.append(FieldError("datacontenttype", f"must be {JSON} (or end in +json); send the fields as JSON"))
    if "data_base64" in value:
        errors.append(FieldError("data_base64", "is not supported; send the fields as an object in data"))
    trace = value.get("traceparent")
    return Entry(value, tuple(errors), trace if isinstance(trace, str) else None, cloudevent=True)
