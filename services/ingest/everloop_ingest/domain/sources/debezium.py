"""Decodes change events of Debezium, with or without the schema that Kafka Connect puts around them.

https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import msgspec

from everloop_ingest.domain.sources.records import (
    NO_FORMATS,
    Content,
    Identity,
    SourceRecordRejected,
    as_object,
    read_json,
)
from everloop_ingest.domain.sources.times import SCHEMA_FORMATS
from everloop_schemas.sources import Operation, TimeFormat
from everloop_shared.errors import FieldError
from everloop_shared.messaging.routes import Record

OPERATIONS: dict[Any, Operation] = {"c": "create", "u": "update", "d": "delete", "r": "snapshot"}
WITHOUT_ROW = ("t", "m")
"""Truncations, and messages of applications: no row is created or changed."""
POSITIONS = ("lsn", "txId", "gtid", "file", "pos", "row", "commit_lsn", "change_lsn", "event_serial_no", "scn", "ssn")
"""Fields of `source` that together identify a change in the log of its database (PostgreSQL, MySQL, SQL Server ...)."""
ENVELOPE = b'{"schema":'
ENVELOPE_BYTES = len(b'{"schema":,"payload":}')
MAX_SCHEMA_DEPTH = 20
MAX_KNOWN_SCHEMA_BYTES = 100_000
"""A longer schema is read with each record, so that what is remembered stays small."""


class Enveloped(msgspec.Struct):
    """A record as Kafka Connect's JSON converter writes it with `schemas.enable`."""

    schema: msgspec.Raw
    payload: msgspec.Raw


_envelopes = msgspec.json.Decoder(Enveloped)
_encoder = msgspec.json.Encoder()


def decode_debezium(record: Record) -> Content | None:
    """A change event; None for a tombstone, and for what changes no row. Raises SourceRecordRejected."""
    if record.value is None:
        return None
    payload, formats = _without_envelope(record.value, "value")
    if payload is None:
        return None
    payload = as_object(payload, "value")
    code = payload.get("op")
    operation = OPERATIONS.get(code) if isinstance(code, str) else None
    if operation is None:
        if code in WITHOUT_ROW:
            return None
        fix = "must be c, u, d or r, as in a change event of Debezium; a record that is only the row has format: json"
        raise SourceRecordRejected([FieldError("op", fix)])
    return Content(
        payload,
        _changed_ms(payload.get("source"), record.at.timestamp),
        identify=partial(_identify, operation, record.key, payload.get("source")),
        operation=operation,
        time_formats=formats,
    )


def _without_envelope(value: bytes, field: str) -> tuple[Any, dict[str, TimeFormat]]:
    """The payload, and the formats of its times by their paths where the record brings its schema."""
    if value.startswith(ENVELOPE):
        try:
            parts = _envelopes.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            parts = None  # the strict reader says what is wrong
        if parts is not None and len(parts.schema) + len(parts.payload) + ENVELOPE_BYTES == len(value):
            return read_json(bytes(parts.payload), field), _time_formats(bytes(parts.schema))
    whole = read_json(value, field)
    if type(whole) is dict and whole.keys() == {"schema", "payload"}:
        return whole["payload"], _time_formats(_encoder.encode(whole["schema"]))
    return whole, dict(NO_FORMATS)


def _time_formats(schema: bytes) -> dict[str, TimeFormat]:
    return _known_formats(schema) if len(schema) <= MAX_KNOWN_SCHEMA_BYTES else _read_formats(schema)


@lru_cache(maxsize=64)
def _known_formats(schema: bytes) -> dict[str, TimeFormat]:
    """Nearly every record of a topic has the same schema, many times as long as its row."""
    return _read_formats(schema)


def _read_formats(schema: bytes) -> dict[str, TimeFormat]:
    return dict(_find_formats(read_json(schema, "schema"), "", 0))


def _find_formats(schema: Any, path: str, depth: int) -> Iterator[tuple[str, TimeFormat]]:
    fields = schema.get("fields") if type(schema) is dict else None
    if type(fields) is not list or depth > MAX_SCHEMA_DEPTH:
        return
    for field in fields:
        if type(field) is not dict or not isinstance(field.get("field"), str):
            continue
        inner = f"{path}.{field['field']}" if path else field["field"]
        name = field.get("name")
        if isinstance(name, str) and name in SCHEMA_FORMATS:
            yield inner, SCHEMA_FORMATS[name]
        yield from _find_formats(field, inner, depth + 1)


def _key(key: bytes | None) -> str | None:
    """The row's key as text, without the schema around it; None for a table without one."""
    if not key:
        return None
    try:
        payload, _ = _without_envelope(key, "key")
    except SourceRecordRejected:
        return key.hex()
    return None if payload is None else _encoder.encode(payload).decode()


def _identify(operation: Operation, raw_key: bytes | None, source: Any) -> Identity:
    """A row is created once, whoever reports it how often; each update of it is a change of its own."""
    key = _key(raw_key)
    position = _position(source) if type(source) is dict else ""
    if key is None:
        return Identity()
    change = f"{key}@{position}" if position else None
    if operation in ("create", "snapshot"):
        return Identity(key, change)
    return Identity(f"{operation}/{change}" if change else None, change)


def _position(source: dict[str, Any]) -> str:
    return "/".join(f"{name}={source[name]}" for name in POSITIONS if source.get(name) is not None)


def _changed_ms(source: Any, otherwise: int) -> int:
    """When the database committed the change."""
    changed = source.get("ts_ms") if type(source) is dict else None
    return changed if type(changed) is int and changed > 0 else otherwise
