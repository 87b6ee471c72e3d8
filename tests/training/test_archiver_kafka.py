"""The archive of the training service on real Kafka: exactly once, over stops and kills of the process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.builders.events import prediction_made
from tests.builders.loops import loop_spec, loop_state
from tests.training.archive_harness import Archive
from tests.training.training_harness import event

from everloop_archive.layout import KINDS, Kind, TableName
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.routes import Engine, connected
from everloop_training.settings import TrainingSettings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
LOOPS = ("market", "shop", "churn")
PARTITIONS = 2


@asynccontextmanager
async def training(settings: TrainingSettings, end: signal.Signals) -> AsyncIterator[None]:
    """The training service as a process, which ends by a signal."""
    of_service = ("data", "archive", "archive_seconds", "kafka_bootstrap", "topic_prefix", "partitions", "instance")
    given = {f"EVERLOOP_{name.upper()}": str(getattr(settings, name)) for name in of_service}
    environment = {**os.environ, **given, "EVERLOOP_TRAINING_PORT": "0", "EVERLOOP_LOG_LEVEL": "WARNING"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "everloop_training", env=environment)
    try:
        yield
    finally:
        process.send_signal(end)
        with suppress(ProcessLookupError):
            await asyncio.wait_for(process.wait(), 60.0)


async def until_archived(archive: Archive, engine: Engine, least: int | None = None) -> None:
    """Wait until the archive has everything on the log, or so many rows at least."""

    async def is_whole() -> bool:
        places = [(kind, partition) for kind in KINDS for partition in range(PARTITIONS)]
        ends = [await engine.end_offset(KINDS[kind], partition) for kind, partition in places]
        return all(archive.next_offset(p, kind) >= end for (kind, p), end in zip(places, ends, strict=True))

    async with asyncio.timeout(90.0):
        while not (await is_whole() if least is None else count(archive) >= least):
            await asyncio.sleep(0.1)


def count(archive: Archive) -> int:
    return sum(len(archive.rows("outcomes", loop)) for loop in LOOPS)


async def test_each_record_is_archived_once_over_stops_and_kills(kafka: Any, tmp_path: Path) -> None:
    settings = TrainingSettings(
        data=tmp_path / "data",
        archive=(tmp_path / "archive").as_uri(),
        archive_seconds=0.3,
        kafka_bootstrap=kafka.bootstrap,
        topic_prefix=f"{uuid4().hex[:8]}.",
        partitions=PARTITIONS,
        instance="training-0",
    )
    archive, ends = Archive(settings.archive), (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)
    async with connected(kafka_factory(settings)("ingest")) as engine:
        await engine.publish([loop_state(loop_spec(loop=loop)) for loop in LOOPS])
        for number, end in enumerate(ends):
            sent = range(number * 100, number * 100 + 100)
            async with training(settings, end):
                await engine.publish([event(i, loop=loop) for i in sent for loop in LOOPS])
                await engine.publish([prediction_made(f"p{i}", loop=loop) for i in sent for loop in LOOPS])
                await until_archived(archive, engine, number * 300 + 50)
                if number == len(ends) - 1:
                    await until_archived(archive, engine)

        kinds: tuple[Kind, ...] = ("outcomes", "predictions")
        for kind in kinds:
            for loop in LOOPS:
                on_log = [
                    (at.partition, at.offset, record.encode().decode())
                    for partition in range(PARTITIONS)
                    for at, record in await engine.read(KINDS[kind], partition, 0, 1_000_000)
                    if record.loop == loop
                ]
                rows = archive.rows(kind, loop)
                assert [(row["partition"], row["offset"], row["record"]) for row in rows] == on_log
                assert len(rows) == 300
    assert archive.data_files() == archive.named_files(*(TableName(kind, loop) for kind in kinds for loop in LOOPS))
