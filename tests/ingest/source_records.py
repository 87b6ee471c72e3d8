"""Records of foreign topics as Debezium and applications write them, and the mapping of a source."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tests.builders.loops import loop_spec, loop_state

from everloop_ingest.domain.sources.mapping import SourceLimits, SourceMapping
from everloop_schemas.sources import SourceSpec
from everloop_shared.messaging.routes import Position, Record

NOW = datetime(2026, 1, 2, tzinfo=UTC)
WRITTEN_MS = 1_767_225_600_000
"""2026-01-01, a day before NOW."""
SCHEMA = {"price": {"type": "number"}, "demand": {"type": "number", "missing": None}}
AFTER = {"id": 7, "price": 1.5, "demand": 2.0, "customer": "anna", "paid": None}
SOURCE = {"connector": "postgresql", "ts_ms": WRITTEN_MS + 5, "txId": 550, "lsn": 24_023_128, "snapshot": "false"}


def mapping(spec: dict[str, Any] | None = None, limits: SourceLimits | None = None, **source: Any) -> SourceMapping:
    """The mapping of a source of the topic `orders`; keywords are of the source."""
    state = loop_state(loop_spec(**{"schema": SCHEMA, **(spec or {})}), revision=3)
    given = SourceSpec.model_validate({"name": "orders", "topic": "orders", **source})
    return SourceMapping(state, given, limits or SourceLimits())


def record(
    value: Any, *, key: Any = None, offset: int = 0, partition: int = 0, headers: dict[str, bytes] | None = None
) -> Record:
    """A record; a value that is not bytes is written as JSON."""
    at = Position("orders", partition, offset, WRITTEN_MS)
    return Record(at, _written(key), _written(value), tuple((headers or {}).items()))


def change(op: str, after: Any = None, before: Any = None, offset: int = 0, **source: Any) -> Record:
    """A change event of Debezium without the schema envelope."""
    payload = {"before": before, "after": after, "source": SOURCE | source, "op": op, "ts_ms": WRITTEN_MS + 9}
    row = after or before or {}
    return record(payload, key={"id": row["id"]} if "id" in row else None, offset=offset)


def enveloped(payload: Any, **types: str) -> bytes:
    """The payload with the schema around it, as Kafka Connect writes it; keywords are types of columns."""
    row = [{"type": "int64", "optional": True, "field": name, "name": kind} for name, kind in types.items()]
    schema = {"type": "struct", "fields": [{"type": "struct", "field": "after", "fields": row}], "name": "Envelope"}
    return json.dumps({"schema": schema, "payload": payload}, separators=(",", ":")).encode()


def _written(value: Any) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
