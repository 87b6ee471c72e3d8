"""What a record of a source says, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from everloop_schemas.sources import Operation, TimeFormat
from everloop_shared import strict_json
from everloop_shared.errors import FieldError, InputRejected
from everloop_shared.messaging.routes import Record
from everloop_shared.tracing import valid_traceparent

NO_FORMATS: Mapping[str, TimeFormat] = {}


class SourceRecordRejected(InputRejected):
    """A record of a source does not fit its loop; the detail names each field and the fix.

    `unexpected` are the names of the loop's expectations that it breaks, where nothing else is wrong with it, and
    `entity` is whom it is about, where that could be read.
    """

    title = "Record of a source does not fit"

    def __init__(self, errors: list[FieldError], unexpected: Sequence[str] = (), entity: str | None = None) -> None:
        super().__init__("; ".join(f"{e.field} {e.error}" for e in errors), errors)
        self.unexpected, self.entity = unexpected, entity


class Identity(NamedTuple):
    """What is the same for a record that says the same once more; None where only its place on the topic identifies it.

    `event` is the same for a row in a second snapshot; `label` only for the same change of a row.
    """

    event: str | None = None
    label: str | None = None


class Content(msgspec.Struct):
    """The value of a record, in which paths are looked up, and what is known of it.

    `arrived_ms` is when it happened as far as its producer says. `identify` costs as much as reading the value, and is
    rarely needed where ids are mapped.
    """

    root: dict[str, Any]
    arrived_ms: int
    identify: Callable[[], Identity] = Identity
    operation: Operation | None = None
    type: str | None = None
    traceparent: str | None = None
    time_formats: Mapping[str, TimeFormat] = NO_FORMATS


Decode = Callable[[Record], Content | None]
"""Decodes a record; None for one that says nothing. Raises SourceRecordRejected."""


def decode_json(record: Record) -> Content | None:
    """A JSON object; None for a tombstone."""
    if record.value is None:
        return None
    return Content(as_object(read_json(record.value), "value"), record.at.timestamp)


def traceparent_of(record: Record) -> str | None:
    """The trace context that OpenTelemetry's instrumentations of producers put into a header of the record."""
    for name, value in record.headers:
        if name == "traceparent" and value is not None:
            return valid_traceparent(value.decode("latin-1"))
    return None


def read_json(text: bytes, field: str = "value") -> Any:
    """A value in strict JSON."""
    try:
        return strict_json.read(text)
    except (ValueError, RecursionError) as e:
        raise SourceRecordRejected([FieldError(field, f"is {e!s:.300}")]) from e


def as_object(value: Any, field: str) -> dict[str, Any]:
    """The value, which must be an object."""
    if type(value) is not dict:
        raise SourceRecordRejected([FieldError(field, "must be a JSON object; its fields are what the source maps")])
    return value
