"""Data sets from an archive that is damaged, away or incomplete: the answer says so, and the service goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders.running import http_client
from tests.everloop_archive.archiving import archive, archive_reaches, placed
from tests.training.training_harness import RunningTraining, event, running_training, state

from everloop_archive.positions import ArchivedRange
from everloop_archive.stores import ArchiveStore
from everloop_shared.messaging.memory import MemoryBroker, MemoryEngine
from everloop_training.adapters import archive as archiving

pytestmark = pytest.mark.app
ARCHIVED = 300
WHOLE = {"start": 0, "end": 399, "revision": 1}


@pytest.fixture
def store(tmp_path: Path) -> ArchiveStore:
    """The first 300 outcomes, in three files."""
    store = ArchiveStore((tmp_path / "lake").as_uri())
    archive(store, "market", placed(event(i) for i in range(ARCHIVED)), commits=3)
    archive_reaches(store, ArchivedRange(0, ARCHIVED))
    return store


@asynccontextmanager
async def served(
    tmp_path: Path, store: ArchiveStore, monkeypatch: pytest.MonkeyPatch, begin: int = ARCHIVED
) -> AsyncIterator[tuple[httpx.AsyncClient, RunningTraining]]:
    """The service, which has learned 400 outcomes, of which the topic has lost those before `begin`."""
    broker = MemoryBroker(partitions=1)
    monkeypatch.setattr(archiving.Archiver, "run", _no_archiving)
    async with (
        running_training(broker, tmp_path, archive=store.url) as training,
        http_client(training.service) as client,
    ):
        await training.publish(state(), *(event(i) for i in range(400)))
        await training.wait_until_learned(399)
        monkeypatch.setattr(MemoryEngine, "begin_offset", _begins(begin))
        monkeypatch.setattr(MemoryEngine, "read", _reads_from(begin, MemoryEngine.read))
        yield client, training


async def ask(client: httpx.AsyncClient, **asked: Any) -> httpx.Response:
    return await client.get("/v1/loops/market/data-set", params=asked, headers={"accept": "application/x-ndjson"})


async def test_archive_and_topic_are_read_as_one(
    tmp_path: Path, store: ArchiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path, store, monkeypatch) as (client, _):
        answer = await ask(client, **WHOLE)

        assert (answer.status_code, answer.headers["everloop-rows"]) == (200, "400")


@pytest.mark.parametrize("damage", ["missing", "cut", "commit"])
async def test_a_damaged_archive_is_an_answer_that_names_the_file_and_the_service_goes_on(
    tmp_path: Path, store: ArchiveStore, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    table = tmp_path / "lake" / "outcomes" / "loop=market"
    damaged = next(table.glob("day=*/0-100-*.parquet" if damage != "commit" else "_delta_log/*2.json"))
    damaged.write_bytes(damaged.read_bytes()[:-9]) if damage != "missing" else damaged.unlink()
    async with served(tmp_path, store, monkeypatch) as (client, training):
        answer = await ask(client, **WHOLE)

        assert (answer.status_code, answer.json()["code"]) == (500, "archive_corrupt")
        assert damaged.name in answer.json()["detail"] or "commit 2 of" in answer.json()["detail"]
        assert training.service.not_ready() is None
        await training.publish(event(400))
        await training.wait_until_learned(400)


async def test_a_store_that_is_away_is_a_reason_to_ask_later(
    tmp_path: Path, store: ArchiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise ConnectionError("connection refused")

    async with served(tmp_path, store, monkeypatch) as (client, _):
        monkeypatch.setattr(store.fs.__class__, "cat_file", refuse)
        away = await ask(client, **WHOLE)
        monkeypatch.undo()

    assert (away.status_code, away.json()["code"]) == (503, "archive_unavailable")
    assert "connection refused" in away.json()["detail"]


async def test_what_the_topic_lost_before_it_was_archived_is_gone(
    tmp_path: Path, store: ArchiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path, store, monkeypatch, begin=350) as (client, _):
        gone, there = await ask(client, **WHOLE), await ask(client, start=350, end=399, revision=1)

    assert (gone.status_code, there.status_code) == (404, 200)
    assert "350" in gone.json()["detail"]


async def _no_archiving(_: object) -> None:
    """The archive is there already."""


def _begins(offset: int) -> Any:
    async def begin_offset(*_: object) -> int:
        return offset

    return begin_offset


def _reads_from(begin: int, read: Any) -> Any:
    async def read_left(engine: MemoryEngine, topic: Any, partition: int, start: int, stop: int) -> Any:
        return await read(engine, topic, partition, max(start, begin), stop)

    return read_left
