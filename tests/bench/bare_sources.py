"""A source read by plain aiokafka: consume, map with msgspec into the same events, produce idempotently, commit."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import uvloop
from tests.bench.bare_kafka import BATCH, clients


class Row(msgspec.Struct):
    """A row of the market as it lies in the records."""

    entity: str
    made: int
    period: float
    nswprice: float
    nswdemand: float
    vicprice: float
    vicdemand: float
    transfer: float


class Payload(msgspec.Struct):
    """A change event; other fields are skipped."""

    op: str
    after: Row | None = None


class Change(msgspec.Struct):
    """A change event within its schema."""

    payload: Payload


_rows, _changes = msgspec.json.Decoder(Row), msgspec.json.Decoder(Change)
_encode = msgspec.json.Encoder().encode
FIELDS = Row.__struct_fields__[2:]


def json_row(value: bytes) -> Row | None:
    """The row of a JSON record."""
    return _rows.decode(value)


def debezium_row(value: bytes) -> Row | None:
    """The row of a change event that created one."""
    change = _changes.decode(value).payload
    return change.after if change.op in ("c", "r") else None


def event(row: Row, id: str) -> bytes:
    """The observation as ingest publishes it."""
    time = datetime.fromtimestamp(row.made / 1e6, UTC)
    return _encode(
        {
            "type": "ingest.event_received.v1",
            "specversion": "1.0",
            "id": id,
            "source": "everloop/ingest",
            "time": time,
            "subject": row.entity,
            "datacontenttype": "application/json",
            "loop": "market",
            "revision": 1,
            "data": {
                "entity": row.entity,
                "fields": {name: getattr(row, name) for name in FIELDS},
                "received": time,
            },
        }
    )


async def read(bootstrap: str, group: str, source: str, target: str, row_of: Callable[[bytes], Row | None]) -> None:
    """At least once, in order per partition: what a source promises, and nothing else of it."""
    consumer, producer = clients(bootstrap, group, source)
    await consumer.start()
    await producer.start()
    while True:
        polled = await consumer.getmany(timeout_ms=200, max_records=BATCH)
        acks: list[Any] = []
        for records in polled.values():
            for r in records:
                if row := row_of(r.value):
                    id = f"{r.topic}/{r.partition}/{r.offset}"
                    acks.append(await producer.send(target, event(row, id), f"market/{row.entity}".encode()))
        if acks:
            await asyncio.gather(*acks)
            await consumer.commit({tp: records[-1].offset + 1 for tp, records in polled.items()})


if __name__ == "__main__":
    kind, bootstrap, group, source, target = sys.argv[1:]
    uvloop.run(read(bootstrap, group, source, target, {"json": json_row, "debezium": debezium_row}[kind]))
