"""Reads every topic whole, as any auditor can: with aiokafka and plain JSON, without code of the services."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]

from everloop_schemas.topology import SERVICES

CONSUMED = (
    ("feature", "ingest.event_received.v1"),
    ("feature", "ingest.label_received.v1"),
    ("feature", "serving.prediction_made.v1"),
    ("serving", "feature.features_computed.v1"),
    ("training", "feature.outcome_observed.v1"),
    ("monitoring", "feature.outcome_observed.v1"),
    ("registry", "training.challenge_updated.v1"),
)
"""Services, each with a topic that its consumer group has to commit before a loop is at rest."""


@dataclass(frozen=True)
class Record:
    """One record; `event` is its JSON, empty where it is none."""

    partition: int
    offset: int
    key: bytes
    raw: bytes
    event: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        """The data of the event."""
        found: dict[str, Any] = self.event["data"]
        return found


@dataclass
class Log:
    """All records by topic, each partition in its order."""

    records: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))

    def of(self, topic: str, loop: str) -> Iterator[Record]:
        """The records of a loop on a topic."""
        return (r for r in self.records[topic] if r.event.get("loop") == loop)

    def first(self, topic: str, loop: str, by: str = "id") -> dict[str, Record]:
        """The first record of each id (or subject) of a loop."""
        found: dict[str, Record] = {}
        for record in self.of(topic, loop):
            found.setdefault(record.event[by], record)
        return found


async def read(bootstrap: str, within_s: float = 60) -> Log:
    """Every record of every topic of the installation."""
    log = Log()
    async with asyncio.timeout(within_s), await _consumer(bootstrap) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while not all([await consumer.position(p) >= ends[p] for p in ends]):
            for tp, records in (await consumer.getmany(timeout_ms=300)).items():
                log.records[tp.topic] += [_record(r) for r in records if r.value is not None]
    return log


async def ends(bootstrap: str) -> dict[str, int]:
    """How many records each topic has been given."""
    found: dict[str, int] = defaultdict(int)
    async with await _consumer(bootstrap) as consumer:
        for tp, end in (await consumer.end_offsets(consumer.assignment())).items():
            found[tp.topic] += end
    return dict(found)


async def lag(bootstrap: str) -> int:
    """How many records the services have not committed yet: of the partitions that they have committed before, and of
    `CONSUMED`, where a service may not have come to its first commit."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        committed = {service: await admin.list_consumer_group_offsets(service) for service in SERVICES}
    finally:
        await admin.close()
    async with await _consumer(bootstrap) as consumer:
        end = await consumer.end_offsets(consumer.assignment())
    never = [tp for service, topic in CONSUMED for tp in end if tp.topic == topic and tp not in committed[service]]
    behind = [max(0, end.get(tp, 0) - at.offset) for offsets in committed.values() for tp, at in offsets.items()]
    return int(sum(behind)) + sum(int(end[tp]) for tp in never)


async def keep_all(bootstrap: str) -> None:
    """Let the broker compact nothing for a day: the states of every moment are evidence."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        [broker] = [node["node_id"] for node in (await admin.describe_cluster())["brokers"]]
        lag = {"log.cleaner.min.compaction.lag.ms": str(24 * 3600 * 1000)}
        answers = await admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, str(broker), lag)])
        assert [code for answer in answers for code, *_ in answer.resources] == [0], answers
    finally:
        await admin.close()


async def _consumer(bootstrap: str) -> Any:
    """A consumer of all partitions of all event topics, from their beginnings."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as looking:
        topics = [t for t in await looking.topics() if t.endswith(".v1")]
    return AIOKafkaConsumer(
        *topics, bootstrap_servers=bootstrap, auto_offset_reset="earliest", metadata_max_age_ms=5000
    )


def _record(record: Any) -> Record:
    try:
        event = json.loads(record.value)
    except ValueError:
        event = None
    return Record(
        record.partition, record.offset, record.key or b"", record.value, event if isinstance(event, dict) else {}
    )
