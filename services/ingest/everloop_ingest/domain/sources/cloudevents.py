"""Decodes CloudEvents in records of Kafka, in structured mode and in binary mode (Kafka protocol binding 1.0.2)."""

from __future__ import annotations

from typing import Any

from everloop_ingest.domain.sources.records import Content, Identity, SourceRecordRejected, read_json
from everloop_shared.cloudevents import (
    BATCH,
    KAFKA_PREFIX,
    STRUCTURED,
    CloudEvent,
    MalformedHeader,
    is_json_type,
    kafka_attributes,
    read_binary,
    read_structured,
)
from everloop_shared.errors import FieldError
from everloop_shared.messaging.routes import Record
from everloop_shared.tracing import valid_traceparent


def decode_cloudevent(record: Record) -> Content | None:
    """The event of a record; None for a tombstone. Raises SourceRecordRejected."""
    if record.value is None:
        return None
    kind = _content_type(record)
    if kind.startswith(BATCH):
        raise SourceRecordRejected([FieldError("content-type", "is a batch; send one CloudEvent in each record")])
    event = read_structured(read_json(record.value)) if kind.startswith(STRUCTURED) else _read_any(record, kind)
    if isinstance(event, list):
        raise SourceRecordRejected(event)
    root: dict[str, Any] = {"id": event.id, "source": event.source, "type": event.type, "data": event.data}
    root |= {"subject": event.subject, "time": event.time}
    return Content(
        root,
        record.at.timestamp,
        identify=lambda: Identity(label=f"{event.source}\n{event.id}"),
        type=event.type,
        traceparent=valid_traceparent(event.traceparent),
    )


def _read_any(record: Record, kind: str) -> CloudEvent | list[FieldError]:
    """An event in binary mode, or one in structured mode whose producer did not say so."""
    assert record.value is not None, "it is not a tombstone"
    try:
        attributes = kafka_attributes(record.headers)
    except MalformedHeader as e:
        return [FieldError(e.header, e.fix)]
    if not attributes:
        return read_structured(read_json(record.value))
    if not is_json_type(kind):
        return [FieldError("content-type", f"is {kind[:80]!r}; send the data as JSON, application/json")]
    return read_binary(attributes, read_json(record.value, "data"), KAFKA_PREFIX)


def _content_type(record: Record) -> str:
    for name, value in record.headers:
        if name.lower() == "content-type" and value is not None:
            return value.decode("latin-1").strip().lower()
    return ""
