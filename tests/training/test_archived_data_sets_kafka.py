"""Data sets past the log's retention, on real Kafka: what the topic does not hold any more comes from the archive."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiokafka import TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete  # type: ignore[import-untyped]
from tests.builders.running import http_client, until
from tests.training.training_harness import event, state

from everloop_archive.positions import read_range
from everloop_archive.stores import ArchiveStore
from everloop_schemas.feature import OutcomeObserved
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.routes import connected
from everloop_training.app import build
from everloop_training.settings import TrainingSettings
from everloop_training.worker.inline import InlineWorker

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
NUMBER = 1_300
NDJSON = {"accept": "application/x-ndjson"}
DATA_SETS: dict[str, dict[str, Any]] = {
    "of the deleted part": {"start": 20, "end": 700, "revision": 1},
    "of both": {"start": 500, "end": 1_250, "revision": 1},
    "of all": {"start": 0, "end": NUMBER - 1, "revision": 1},
    "the last ones": {"last": 800},
    "of a time": {"from": "2026-01-01T05:00:00Z", "to": "2026-01-01T18:00:00Z"},
}


async def test_a_data_set_has_the_same_rows_before_and_after_the_topic_lost_them(kafka: Any, tmp_path: Path) -> None:
    url = (tmp_path / "archive").as_uri()
    prefix = f"{uuid4().hex[:8]}."
    settings = TrainingSettings(
        data=tmp_path,
        port=0,
        kafka_bootstrap=kafka.bootstrap,
        topic_prefix=prefix,
        partitions=1,
        archive=url,
        archive_seconds=0.2,
    )
    connect, stop = kafka_factory(settings), asyncio.Event()
    async with connected(connect("ingest")) as engine:
        await engine.publish([state(), *(event(i, loop="market" if i % 5 else "other") for i in range(NUMBER))])
        service = build(settings, connect, InlineWorker.start)
        task = asyncio.create_task(service.run(stop))
        await until(lambda: task.done() or service.not_ready() is None, 90.0)
        await until(lambda: (found := read_range(ArchiveStore(url), "outcomes", 0)) and found.next >= NUMBER, 60.0)
        async with http_client(service, "/v1/loops/market") as client:
            before = {name: await rows(client, asked) for name, asked in DATA_SETS.items()}

            await delete_records(kafka.bootstrap, prefix + OutcomeObserved.topic.name, 900)
            assert await engine.begin_offset(OutcomeObserved.topic, 0) == 900
            after = {name: await rows(client, asked) for name, asked in DATA_SETS.items()}
        stop.set()
        await task

    assert after == before
    assert [row.count(b"\n") for row in before.values()] == [1 + n for n in (544, 600, 1_040, 800, 624)]


async def rows(client: httpx.AsyncClient, asked: dict[str, Any]) -> bytes:
    """The lines of a data set: the first one names it, with its digest."""
    answer = await client.get("/data-set", params=asked, headers=NDJSON, timeout=60.0)
    assert answer.status_code == 200, answer.text
    return answer.content


async def delete_records(bootstrap: str, topic: str, before: int) -> None:
    """Delete the records of a topic that retention would have deleted first."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before)})
    await admin.close()
