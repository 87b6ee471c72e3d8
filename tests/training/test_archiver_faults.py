"""The store is away, the disk is full, two archive the same partition: nothing is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from threading import Event as ThreadEvent
from typing import Any

import pytest
from prometheus_client import REGISTRY
from tests.builders.loops import loop_spec, loop_state
from tests.builders.running import until
from tests.object_stores import ObjectStore
from tests.small_disk import mounted_disk
from tests.training.archive_harness import RunningArchiver, archiving, days_of_outcomes, hurry
from tests.training.training_harness import event, state

from everloop_archive.layout import TableName
from everloop_archive.positions import ArchivedRange, read_range
from everloop_archive.table_writer import TableWriter
from everloop_schemas.envelope import Topic
from everloop_shared.backoff import Backoff
from everloop_shared.messaging.memory import MemoryBroker, MemoryEngine
from everloop_shared.messaging.routes import Record
from everloop_training.adapters.archive import archiver

TABLE = TableName("outcomes", "market")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(archiver, "BACKOFF", Backoff(first_s=0.02, longest_s=0.2))


@pytest.fixture
def s3(s3_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """S3 alone: the client of Google Cloud Storage tries again for a minute before it says that the store is away."""
    store = s3_store.use(monkeypatch)
    yield store
    store.relay.turn("up")


def sample(name: str) -> float:
    value = REGISTRY.get_sample_value(f"everloop_archive_{name}", {"kind": "outcomes"})
    assert value is not None
    return value


def assert_whole(running: RunningArchiver, count: int) -> None:
    """Each of the outcomes is archived once, and there are no other files."""
    assert running.archive.offsets() == list(range(count))
    assert running.archive.data_files() == running.archive.named_files(TABLE)


async def test_a_store_that_is_away_is_waited_for_in_bounded_memory(s3: ObjectStore) -> None:
    padding, count = "x" * 3_000, 1_200
    async with archiving(s3.url, state(), archive_bytes=1_000_000) as running:
        await running.publish(days_of_outcomes(20))
        await running.until_archived(20)
        s3.relay.turn("away")

        await running.publish(event(i, source=padding) for i in range(20, count))
        await until(lambda: sample("failing_seconds") > 0.5, 30.0)

        assert running.task.done() is False
        assert "no outcomes are archived for" in running.archiver.remarks()[0]
        assert sample("buffered_bytes") < 1_000_000 + 5_000_000, "the limit, and one piece of the log"
        assert (running.archiver.partitions["outcomes", 0].next_offset or 0) < count
        s3.relay.turn("up")
        await running.until_archived(count)
        await until(lambda: sample("failing_seconds") == 0, 10.0)

    assert running.archiver.remarks() == []
    assert_whole(running, count)


async def test_a_store_that_is_away_at_the_start_is_waited_for(s3: ObjectStore) -> None:
    s3.relay.turn("away")
    async with archiving(s3.url, state()) as running:
        await running.publish(days_of_outcomes(20))
        await until(lambda: sample("failing_seconds") > 0.2, 30.0)

        s3.relay.turn("up")
        await running.until_archived(20)

    assert_whole(running, 20)


async def test_a_store_that_goes_away_again_and_again_loses_nothing(object_store: ObjectStore) -> None:
    async with archiving(object_store.url, state()) as running:
        for start in range(0, 100, 10):
            await running.publish(days_of_outcomes(10, start))
            await asyncio.sleep(0.05)  # while it writes: at another place each time
            object_store.relay.turn("away")
            await asyncio.sleep(0.05)
            object_store.relay.turn("up")
        await running.until_archived(100)

    assert_whole(running, 100)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1 MB."""
    with mounted_disk(tmp_path / "disk", 1) as folder:
        yield folder


async def test_a_full_disk_is_reported_and_survived(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(900_000))
    async with archiving(small_disk / "archive", state()) as running:
        await running.publish(event(i, source=token_hex(300)) for i in range(500))
        await until(lambda: "No space left on device" in "".join(running.archiver.remarks()), 30.0)

        filler.unlink()
        await running.until_archived(500)

    assert_whole(running, 500)


async def test_two_that_archive_the_same_partitions_archive_each_record_once(tmp_path: Path) -> None:
    broker = MemoryBroker(partitions=1)
    async with (
        archiving(tmp_path, state(), broker=broker) as first,
        archiving(tmp_path, state(), broker=broker) as second,
    ):
        for start in range(0, 600, 30):
            await first.publish(days_of_outcomes(30, start))
            await asyncio.sleep(0.02)
        await second.until_archived(600)

    assert_whole(first, 600)


@pytest.mark.parametrize("step", ["_create_table", "_write_file", "_commit"])
async def test_a_writer_that_was_taken_for_dead_does_no_harm_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stands, goes_on, broker = ThreadEvent(), ThreadEvent(), MemoryBroker(partitions=1)
    work = getattr(TableWriter, step)

    def standing(*args: Any) -> Any:
        if not stands.is_set():
            stands.set()
            assert goes_on.wait(30.0)
        return work(*args)

    monkeypatch.setattr(TableWriter, step, standing)
    async with archiving(tmp_path, state(), broker=broker) as first:
        await first.publish(days_of_outcomes(50))
        await until(stands.is_set)
        async with archiving(tmp_path, state(), broker=broker) as second:
            await second.publish(days_of_outcomes(50, 50))
            await second.until_archived(100)

        goes_on.set()
        await first.publish(days_of_outcomes(50, 100))
        await first.until_archived(150)

    assert_whole(first, 150)


async def test_records_that_were_deleted_before_they_were_archived_are_counted_and_noted(tmp_path: Path) -> None:
    async with archiving(tmp_path, state()) as running:
        await running.publish(days_of_outcomes(20))
        await running.until_archived(20)
        lost = REGISTRY.get_sample_value("everloop_archive_lost_records_total", {"kind": "outcomes"}) or 0.0
    broker = MemoryBroker(partitions=1)
    for outcome in days_of_outcomes(50):
        await broker.append(outcome.topic.name, outcome.key(), outcome.encode())
    async with archiving(tmp_path, state(), engine=TrimmedEngine(broker, 35)) as running:
        await running.until_archived(50)

    assert running.archive.offsets() == [*range(20), *range(35, 50)]
    assert sample("lost_records_total") - lost == 15
    assert read_range(running.archive.store, "outcomes", 0) == ArchivedRange(0, 50, ((20, 35),))


class TrimmedEngine(MemoryEngine):
    """An engine of a log whose retention has deleted the first outcomes."""

    def __init__(self, broker: MemoryBroker, begin: int) -> None:
        super().__init__(broker, "archive")
        self._begin = begin

    async def begin_offset(self, topic: Topic, partition: int) -> int:
        """The first outcome that is there."""
        return self._begin if topic == TABLE.topic else 0

    async def read_records(self, topic: Topic, partition: int, start: int, stop: int) -> list[Record]:
        """What is there."""
        return await super().read_records(topic, partition, max(start, await self.begin_offset(topic, 0)), stop)


async def test_an_archive_of_another_cluster_is_not_continued(tmp_path: Path) -> None:
    async with archiving(tmp_path, state()) as running:
        await running.publish(days_of_outcomes(20))
        await running.until_archived(20)

    async with archiving(tmp_path, state()) as running:
        await running.publish(days_of_outcomes(5))
        await until(lambda: "belongs to another cluster" in "".join(running.archiver.remarks()))

    assert running.archive.offsets() == list(range(20))


async def test_loops_fill_the_memory_together_and_the_largest_are_written_first(tmp_path: Path) -> None:
    loops = [loop_state(loop_spec(loop=f"loop-{i}")) for i in range(5)]
    padding = "x" * 2_000
    async with archiving(tmp_path, *loops, archive_bytes=1_000_000, archive_seconds=1000) as running:
        await running.publish(
            event(i, loop=f"loop-{i % 20 % 5 if i % 20 < 5 else 0}", source=padding) for i in range(600)
        )
        await until(lambda: running.archive.next_offset() > 0)
        assert set(running.archive.offsets(loop="loop-0")) > set(running.archive.offsets(loop="loop-4"))
        await running.until_read(600)

    assert sum(len(running.archive.offsets(loop=f"loop-{i}")) for i in range(5)) == 600
