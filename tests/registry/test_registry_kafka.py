"""The registry on a real broker: decisions in order, the database rebuilt from the topic."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from tests.databases import database_url
from tests.registry.registry_harness import LOOP_FILE, YAML, registry_on

from everloop.local.kafka import Broker
from everloop_registry.__main__ import rebuild
from everloop_registry.adapters.loop_reader import SqlLoopReader
from everloop_registry.settings import RegistrySettings
from everloop_registry.tables import MIGRATIONS
from everloop_shared.database import Database
from everloop_shared.messaging.kafka.engine import kafka_factory


async def dumped(settings: RegistrySettings) -> str:
    """Decisions and fold."""
    async with Database(settings.database, MIGRATIONS, schema="registry") as database:
        return await SqlLoopReader(database).dump()


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
    assert await dumped(first) == await dumped(second) == await dumped(third)
