"""Reads a body into its entries: JSON, NDJSON and CloudEvents 1.0 (structured, batch and binary), strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from everloop_ingest.errors import EmptyRequest, MalformedBody, RequestTooLarge
from everloop_shared import strict_json
from everloop_shared.cloudevents import (
    BATCH,
    HTTP_PREFIX,
    STRUCTURED,
    CloudEvent,
    is_structured,
    read_binary,
    read_structured,
)
from everloop_shared.errors import FieldError
from everloop_shared.strict_json import NDJSON

JSON = "application/json"
CONTENT_TYPES = (JSON, NDJSON[0], STRUCTURED, BATCH)
NO_ATTRIBUTES: Mapping[str, str] = {}


@dataclass(frozen=True)
class RequestLimits:
    """The number of entries of a request, and the bytes of one entry, at most."""

    entries: int
    entry_bytes: int


@dataclass(frozen=True)
class Entry:
    """One entry of a request: a JSON value as sent, a CloudEvent, or the errors that prevented reading it."""

    value: Any = None
    errors: tuple[FieldError, ...] = ()

    @property
    def traceparent(self) -> str | None:
        """The trace context of a CloudEvent, unchecked."""
        return self.value.traceparent if isinstance(self.value, CloudEvent) else None


def read_entries(
    content_type: str, body: bytes, limits: RequestLimits, attributes: Mapping[str, str] = NO_ATTRIBUTES
) -> list[Entry]:
    """The entries of a body whose content type (without parameters) is JSON or one of CONTENT_TYPES.

    With `attributes` the body is the data of a CloudEvent in binary mode. Only a batch of CloudEvents may be empty.
    Raises MalformedBody, EmptyRequest, RequestTooLarge. A malformed NDJSON line affects only its own entry.
    """
    if content_type == BATCH:
        entries = [_read_cloudevent(value) for value in _as_list(_parse(body))]
    elif content_type == STRUCTURED:
        entries = [_read_cloudevent(_as_one(_parse_entry(body, limits)))]
    elif attributes:
        entries = [_entry_of(read_binary(attributes, _parse_entry(body, limits), HTTP_PREFIX))]
    elif content_type in NDJSON:
        entries = _read_lines(body, limits)
    else:
        value = _parse_entry(body, limits) if body.lstrip()[:1] == b"{" else _parse(body)
        entries = [_read_value(v) for v in (value if isinstance(value, list) else [value])]
    if not entries and content_type != BATCH:
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
        return _read_value(_parse_entry(line, limits))
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


def _as_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedBody(f"{BATCH} is a list of CloudEvents; a single one is {STRUCTURED}")
    return value


def _as_one(value: Any) -> Any:
    if isinstance(value, list):
        raise MalformedBody(f"{STRUCTURED} is a single CloudEvent; a list of them is {BATCH}")
    return value


def _read_value(value: Any) -> Entry:
    return _read_cloudevent(value) if is_structured(value) else Entry(value)


def _read_cloudevent(value: Any) -> Entry:
    return _entry_of(read_structured(value), value)


def _entry_of(event: CloudEvent | list[FieldError], value: Any = None) -> Entry:
    return Entry(value, tuple(event)) if isinstance(event, list) else Entry(event)
