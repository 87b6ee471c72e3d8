"""The registry on a real broker: decisions in order, the database rebuilt from the topic."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer  # type: ignore[import-untyped]
from tests.databases import database_url
from tests.registry.registry_harness import LOOP_FILE, YAML, dump_of, registry_on

from everloop.local.kafka import Broker
from everloop_registry.__main__ import rebuild
from everloop_registry.errors import DecisionsInconsistent
from everloop_registry.settings import RegistrySettings
from everloop_schemas.registry import Decided, LoopState
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.routes import connected


@pytest.mark.kafka
@pytest.mark.promise(8)
async def test_the_database_is_rebuilt_from_the_topic_at_the_start_and_by_command(
    kafka: Broker, tmp_path: Path, databases: object
) -> None:
    def settings(folder: str) -> RegistrySettings:
        home = tmp_path / folder
        return RegistrySettings(
            data=home,
            port=0,
            database_url=database_url(home),
            kafka_bootstrap=kafka.bootstrap,
            topic_prefix=prefix,
            partitions=2,
        )

    prefix = f"registry-{uuid4().hex[:8]}."
    first, second, third = settings("one"), settings("two"), settings("three")
    async with registry_on(kafka_factory(first), first) as client:
        for name in ("market", "churn"):
            text = LOOP_FILE.replace("market", name)
            answer = await client.put(f"/{name}", content=text, headers=YAML)
            assert answer.status_code == 201
        changed = await client.put("/market", content=LOOP_FILE + "gate: {confidence: 0.99}\n", headers=YAML)

    async with registry_on(kafka_factory(second), second) as client:
        again = await client.put("/market", content=LOOP_FILE + "gate: {confidence: 0.99}\n", headers=YAML)
    await rebuild(third)

    assert changed.json()["revision"] == again.json()["revision"] == 2
    assert await dump_of(first.database) == await dump_of(second.database) == await dump_of(third.database)


@pytest.mark.kafka
async def test_a_byte_that_was_changed_on_a_copy_of_the_log_stops_verification_and_rebuild_by_name(
    kafka: Broker, tmp_path: Path
) -> None:
    # given: a log of four decisions, and a copy of it in which a byte of the second one is another
    original, copy = f"registry-{uuid4().hex[:8]}.", f"copy-{uuid4().hex[:8]}."
    parts: dict[str, Any] = {"data": tmp_path, "port": 0, "kafka_bootstrap": kafka.bootstrap, "partitions": 2}
    first = RegistrySettings(**parts, database_url=database_url(tmp_path / "one"), topic_prefix=original)
    async with registry_on(kafka_factory(first), first) as client:
        for confidence in ("0.95", "0.96", "0.97", "0.98"):
            content = LOOP_FILE + f"gate: {{confidence: {confidence}}}\n"
            (await client.put("/market", content=content, headers=YAML)).raise_for_status()
    settings = RegistrySettings(**parts, database_url=database_url(tmp_path / "two"), topic_prefix=copy)
    async with connected(kafka_factory(settings)("registry")):
        pass  # makes the topics
    await copy_with_a_change(kafka.bootstrap, original, copy, b'"confidence":0.96', b'"confidence":0.66')

    # when: both are verified, and the registry is rebuilt from the copy
    whole, broken = [await asyncio.to_thread(verify, kafka.bootstrap, prefix) for prefix in (original, copy)]
    with pytest.raises(DecisionsInconsistent, match="market: decision 1 was altered"):
        await rebuild(settings)

    # then: the original is whole, and the decision that was changed is named
    assert (whole.returncode, "market: 4 decisions, none was changed" in whole.stdout) == (0, True), whole.stderr
    assert (broken.returncode, "market: decision 1 was altered" in broken.stderr) == (1, True), broken.stdout


async def copy_with_a_change(bootstrap: str, original: str, copy: str, before: bytes, after: bytes) -> None:
    """Copy decisions and states from one prefix to another."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for topic in (Decided.topic.name, LoopState.topic.name):
            options = {
                "bootstrap_servers": bootstrap,
                "auto_offset_reset": "earliest",
                "isolation_level": "read_committed",
            }
            async with AIOKafkaConsumer(original + topic, **options) as consumer:
                ends = await consumer.end_offsets(consumer.assignment())
                async with asyncio.timeout(30):
                    while not all([await consumer.position(p) >= end for p, end in ends.items()]):
                        for records in (await consumer.getmany(timeout_ms=200)).values():
                            for r in records:
                                value = r.value if topic != Decided.topic.name else r.value.replace(before, after)
                                await producer.send_and_wait(copy + topic, value, key=r.key, partition=r.partition)


def verify(bootstrap: str, prefix: str) -> subprocess.CompletedProcess[str]:
    """`everloop audit verify`, as an auditor runs it, who knows the broker alone."""
    environment = {**os.environ, "EVERLOOP_KAFKA_BOOTSTRAP": bootstrap, "EVERLOOP_TOPIC_PREFIX": prefix}
    command = [sys.executable, "-m", "everloop", "audit", "verify"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
