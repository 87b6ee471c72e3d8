"""What must not depend on the database: the dump, and one order of decisions however many replicas decide."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.builders.events import run_requested
from tests.builders.running import until
from tests.databases import Databases, Postgres, Sqlite, database_url
from tests.registry.registry_harness import LOOP_FILE, YAML, dump_of, registry_on

from everloop_registry.settings import RegistrySettings
from everloop_schemas.registry import Decided, LoopState
from everloop_shared.messaging.memory import MemoryBroker


def settings(url: str, folder: Path) -> RegistrySettings:
    """A registry on this database."""
    return RegistrySettings(data=folder, port=0, database_url=url)


@pytest.mark.postgres
async def test_a_rebuild_on_the_other_database_gives_the_same_dump(tmp_path: Path, postgres: Postgres) -> None:
    broker, urls = MemoryBroker(), [Sqlite().url(tmp_path), postgres.url(tmp_path)]
    async with registry_on(broker.engine, settings(urls[0], tmp_path)) as client:
        for name in ("b-2", "B-1", "a_b", "ab"):  # languages disagree about their order
            await client.put(f"/{name.lower()}", content=LOOP_FILE.replace("market", name.lower()), headers=YAML)
        await client.put("/ab", content=LOOP_FILE.replace("market", "ab") + "gate: {confidence: 0.9}\n", headers=YAML)
    for url in (urls[1], Sqlite().url(tmp_path / "again")):
        async with registry_on(broker.engine, settings(url, tmp_path)):
            pass
        urls.append(url)

    dumps = [await dump_of(url) for url in urls]

    assert len(set(dumps)) == 1
    assert dumps[0].count("loop_applied") >= 4
    postgres.drop()


async def test_two_replicas_that_get_the_same_commands_at_once_decide_once(
    tmp_path: Path, databases: Databases
) -> None:
    broker, url = MemoryBroker(), database_url(tmp_path)
    async with (
        registry_on(broker.engine, settings(url, tmp_path)) as one,
        registry_on(broker.engine, settings(url, tmp_path)) as two,
    ):
        put = [client.put("/market", content=LOOP_FILE, headers=YAML) for client in (one, two, one, two)]
        answers = await asyncio.gather(*put)
        revised = [
            client.put("/market", content=f"{LOOP_FILE}gate: {{confidence: 0.{n}}}\n", headers=YAML)
            for n, client in enumerate((one, two, one, two), start=91)
        ]
        await asyncio.gather(*revised)
        await broker.append("training.run_requested.v1", b"market", run_requested("a-0").encode())
        await until(lambda: len(broker.events(Decided.topic)) == 5)

    decided = [e.sequence for e in broker.events(Decided.topic) if isinstance(e, Decided)]
    states = [e.data.sequence for e in broker.events(LoopState.topic) if isinstance(e, LoopState)]
    assert sorted(a.status_code for a in answers) == [200, 200, 200, 201]
    assert decided == states == [0, 1, 2, 3, 4]


@pytest.mark.postgres
async def test_while_postgresql_is_away_requests_get_503_and_then_go_on(tmp_path: Path, postgres: Postgres) -> None:
    broker = MemoryBroker()
    async with registry_on(broker.engine, settings(postgres.url(tmp_path), tmp_path)) as client:
        await client.put("/market", content=LOOP_FILE, headers=YAML)
        postgres.stop()
        try:
            away = [
                await client.get("/market"),
                await client.put("/desk", content=LOOP_FILE.replace("market", "desk"), headers=YAML),
            ]
        finally:
            postgres.start()
        back = [
            await client.get("/market"),
            await client.put("/desk", content=LOOP_FILE.replace("market", "desk"), headers=YAML),
        ]

    assert [a.status_code for a in away] == [503, 503]
    assert all(a.headers["retry-after"] for a in away)
    assert [a.status_code for a in back] == [200, 201]
    postgres.drop()
