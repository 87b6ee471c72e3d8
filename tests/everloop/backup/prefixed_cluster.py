"""Clusters of the backup tests: installations on the shared broker, each under its own topic prefix."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from tests.databases import database_url
from tests.registry.registry_harness import LOOP_FILE, registry_on, store_model
from tests.training.training_harness import event as outcome_event

from everloop.backup.logs import ClusterReader
from everloop.backup.records import BackupRecord
from everloop.backup.settings import BackupSettings
from everloop_registry.adapters.loop_reader import SqlLoopReader
from everloop_registry.settings import RegistrySettings
from everloop_registry.tables import MIGRATIONS
from everloop_schemas.envelope import Topic
from everloop_schemas.feature import OutcomeObserved
from everloop_shared.database import Database
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.messaging.routes import connected

PARTITIONS = 2


@dataclass
class PrefixedCluster:
    """An installation's folder and cluster; with its own topic prefix, the shared broker is an empty cluster."""

    settings: BackupSettings

    async def dump(self) -> str:
        """The registry's fold, once it has read its topic."""
        shared = self.settings.model_dump(include={"data", "kafka_bootstrap", "topic_prefix", "partitions"})
        settings = RegistrySettings(**shared, port=0, database_url=database_url(self.settings.data))
        async with registry_on(kafka_factory(settings), settings):
            pass
        async with Database(settings.database, MIGRATIONS, schema="registry") as database:
            return await SqlLoopReader(database).dump()

    async def records(self, topic: Topic) -> list[list[BackupRecord]]:
        """Every record of a topic, by partition."""
        async with ClusterReader(self.settings) as reader:
            ends = await reader.ends([topic])
            return [
                [r async for r in reader.read(topic.name, p, ends[topic.name, p]) if not r.fills_gap]
                for p in range(PARTITIONS)
                if (topic.name, p) in ends
            ]

    async def bounds(self, topic: Topic) -> list[tuple[int, int]]:
        """First and next offset of each partition."""
        async with ClusterReader(self.settings) as reader:
            starts, ends = await reader.starts([topic]), await reader.ends([topic])
        return [(starts[topic.name, p], ends[topic.name, p]) for p in range(PARTITIONS)]

    async def topics(self) -> set[str]:
        """What is on the cluster under this prefix."""
        async with ClusterReader(self.settings) as reader:
            return reader.names

    async def publish(self, topic: Topic, partition: int, key: bytes, value: bytes) -> None:
        """Append a record."""
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.kafka_bootstrap, acks="all")
        await producer.start()
        try:
            await producer.send_and_wait(self.settings.topic_prefix + topic.name, value, key, partition)
        finally:
            await producer.stop()


MakeCluster = Callable[[str], PrefixedCluster]


async def fill(cluster: PrefixedCluster) -> None:
    """Two loops applied and revised, outcomes, a version with its artifact, a snapshot."""
    shared = cluster.settings.model_dump(include={"data", "kafka_bootstrap", "topic_prefix", "partitions"})
    settings = RegistrySettings(**shared, port=0, database_url=database_url(cluster.settings.data))
    await ensure_topics(settings, [OutcomeObserved.topic])
    trained = store_model("a-0", 200, cluster.settings.data / "artifacts")
    async with registry_on(kafka_factory(settings), settings) as client:
        for name in ("market", "shop"):
            await client.put(f"/{name}", content=LOOP_FILE.replace("market", name))
        await client.put("/market", content=LOOP_FILE + "gate: {confidence: 0.99}\n")
        outcomes = [outcome_event(i, loop) for i in range(300) for loop in ("market", "shop")]
        async with connected(kafka_factory(settings)("training")) as engine:
            await engine.publish([trained, *outcomes])
        async with asyncio.timeout(30):
            while not (await client.get("/market/versions")).json()["versions"]:
                await asyncio.sleep(0.05)
    cluster.settings.snapshots.mkdir(parents=True)
    (cluster.settings.snapshots / "partition-0.snapshot").write_bytes(b"learned")
