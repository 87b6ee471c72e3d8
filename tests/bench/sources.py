"""Kafka sources: ingest reads a topic of a user's, against plain aiokafka that maps the same records with msgspec."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from tests.bench import stream
from tests.bench.bus import Bus, Record, topics
from tests.bench.figures import Figure, Sample, against
from tests.bench.settings import Settings
from tests.bench.subject import drained, program, service

from everloop_schemas.envelope import Topic
from everloop_schemas.ingest import EventReceived
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import BASELINE, LiveVersion, LoopState, LoopStateData

GOAL = 0.5
MADE_US = 1_767_225_600_000_000
KINDS = {"json": "JSON", "debezium": "Debezium, with its schema"}


async def measure(settings: Settings) -> list[Figure]:
    """Both formats, ours and the plain program in turn on the same records."""
    samples: dict[str, dict[str, list[Sample]]] = {kind: {"ours": [], "bare": []} for kind in KINDS}
    for run in range(settings.runs):
        for kind, found in samples.items():
            prefix, rows = f"source{run}{kind}.", Topic("rows", "bench", "loop/subject")
            async with topics(settings.bootstrap, prefix, rows, EventReceived.topic, LoopState.topic) as bus:
                await bus.fill(rows, _records(kind, settings.source_rows))
                await bus.put(_state(kind, prefix + rows.name))
                found["bare"] += await _run_bare(settings, bus, prefix, kind)
                found["ours"] += await _run_ours(settings, bus, prefix)
    name = "rows of a Kafka source, {} / plain aiokafka and msgspec"
    return [against(name.format(KINDS[kind]), s["ours"], s["bare"], GOAL) for kind, s in samples.items()]


async def _run_ours(settings: Settings, bus: Bus, prefix: str) -> list[Sample]:
    before = await bus.count(EventReceived.topic)
    async with service("ingest", settings.bootstrap, prefix, settings.folder / f"{prefix}ours") as subject:
        return await drained(subject, partial(bus.count, EventReceived.topic), before + settings.source_rows)


async def _run_bare(settings: Settings, bus: Bus, prefix: str, kind: str) -> list[Sample]:
    names = [prefix + "rows", prefix + EventReceived.topic.name]
    command = ["tests.bench.bare_sources", kind, settings.bootstrap, prefix + "bare", *names]
    before = await bus.count(EventReceived.topic)
    async with program(command, settings.folder / f"{prefix}bare.log", {}) as subject:
        return await drained(subject, partial(bus.count, EventReceived.topic), before + settings.source_rows)


def _records(kind: str, count: int) -> Iterator[Record]:
    for i, fields, _ in stream.rows(count):
        entity = f"household-{i % stream.ENTITIES}"
        row = {"id": i, "entity": entity, "made": MADE_US + i * 1_000_000} | fields
        yield str(i).encode(), _written(row if kind == "json" else _change(row, i))


def _change(row: dict[str, Any], lsn: int) -> dict[str, Any]:
    """A change event as Debezium 3 writes it with `schemas.enable`."""
    types: dict[str, Any] = {name: {"type": "double", "optional": True, "field": name} for name in row}
    types["id"] = {"type": "int64", "optional": False, "field": "id"}
    types["entity"] = {"type": "string", "optional": True, "field": "entity"}
    types["made"] = {
        "type": "int64",
        "optional": True,
        "name": "io.debezium.time.MicroTimestamp",
        "version": 1,
        "field": "made",
    }
    source = {
        "version": "3.6.1.Final",
        "connector": "postgresql",
        "name": "crm",
        "ts_ms": MADE_US // 1000,
        "snapshot": "false",
        "db": "postgres",
        "sequence": f'["{lsn}","{lsn + 8}"]',
        "ts_us": MADE_US,
        "ts_ns": MADE_US * 1000,
        "schema": "public",
        "table": "rows",
        "txId": lsn,
        "lsn": lsn,
        "xmin": None,
    }
    of_source = [{"type": "string", "optional": True, "field": name} for name in source]
    struct = {"type": "struct", "optional": True, "name": "crm.public.rows.Value", "fields": list(types.values())}
    parts = [struct | {"field": "before"}, struct | {"field": "after"}]
    parts += [{"type": "struct", "fields": of_source, "name": "io.debezium.connector.postgresql.Source"}]
    parts += [{"type": "string", "field": "op"}, {"type": "int64", "optional": True, "field": "ts_ms"}]
    schema = {"type": "struct", "fields": parts, "optional": False, "name": "crm.public.rows.Envelope", "version": 2}
    payload = {"before": None, "after": row, "source": source, "transaction": None, "op": "c", "ts_ms": MADE_US // 1000}
    return {"schema": schema, "payload": payload}


def _written(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _state(kind: str, topic: str) -> LoopState:
    root = "after." if kind == "debezium" else ""
    time = {"path": f"{root}made"} | ({"format": "us"} if kind == "json" else {})
    events = {"id": f"{root}id", "entity": f"{root}entity", "time": time}
    spec = stream.spec() | {"sources": [{"name": "rows", "topic": topic, "format": kind, "events": events}]}
    return LoopState(
        id="state",
        time=datetime(2026, 1, 1, tzinfo=UTC),
        subject=BASELINE,
        loop=stream.LOOP,
        revision=1,
        data=LoopStateData(
            spec=LoopSpec.model_validate(spec),
            champion=LiveVersion(version=BASELINE, since=datetime(2026, 1, 1, tzinfo=UTC)),
            sequence=1,
        ),
    )
