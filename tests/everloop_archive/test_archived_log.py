"""Archive and topic as one log: every record of a loop once, whatever of it is still on the topic."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.everloop_archive.archiving import Placed, archive, archive_reaches, placed
from tests.training.training_harness import event

from everloop_archive.positions import ArchivedRange
from everloop_archive.reader.archived_log import ArchivedLog
from everloop_archive.reader.stored import StoredArchive
from everloop_archive.stores import ArchiveStore
from everloop_schemas.envelope import Event, Topic
from everloop_schemas.feature import OutcomeObserved
from everloop_shared.messaging.memory import MemoryBroker, MemoryEngine
from everloop_shared.messaging.routes import Position

TOPIC = OutcomeObserved.topic


class TrimmedLog(MemoryEngine):
    """A log that has lost the records before an offset; `trimmed_while_reading` moves that after the next read."""

    begin = 0
    trimmed_while_reading = 0

    async def begin_offset(self, topic: Topic, partition: int) -> int:
        """The first that is left."""
        return self.begin

    async def read(self, topic: Topic, partition: int, start: int, stop: int) -> list[tuple[Position, Event]]:
        """What is left."""
        self.begin, self.trimmed_while_reading = max(self.begin, self.trimmed_while_reading), 0
        return await super().read(topic, partition, max(start, self.begin), stop)


async def log_of(events: Sequence[OutcomeObserved], begin: int = 0) -> TrimmedLog:
    broker = MemoryBroker(partitions=1)
    for one in events:
        await broker.append(one.topic.name, one.key(), one.encode())
    engine = TrimmedLog(broker, "training")
    engine.begin = begin
    return engine


@pytest.fixture
def store(tmp_path: Path) -> ArchiveStore:
    return ArchiveStore(tmp_path.as_uri())


EVENTS = [event(i) for i in range(3_000)]


def archived(store: ArchiveStore, records: Sequence[Placed], reaches: ArchivedRange) -> StoredArchive:
    archive(store, "market", records, commits=2)
    archive_reaches(store, reaches)
    return StoredArchive(store)


async def read_on(log: ArchivedLog, start: int, stop: int, step: int = 700) -> list[tuple[int, bytes]]:
    found = []
    for at in range(start, stop, step):
        found += [(p.offset, e.encode()) for p, e in await log.read(TOPIC, 0, at, min(at + step, stop))]
    return found


@pytest.mark.parametrize("begin", [0, 1, 1_500, 2_000])
async def test_a_loop_is_read_whole_wherever_the_topic_begins(store: ArchiveStore, begin: int) -> None:
    stored = archived(store, placed(EVENTS[:2_000]), ArchivedRange(0, 2_000))
    log = ArchivedLog(await log_of(EVENTS, begin), stored, "market")

    assert await log.begin_offset(TOPIC, 0) == 0
    assert await log.end_offset(TOPIC, 0) == 3_000
    assert await read_on(log, 0, 3_000) == [(i, one.encode()) for i, one in enumerate(EVENTS)]
    assert await read_on(log, 1_400, 2_100) == [(i, EVENTS[i].encode()) for i in range(1_400, 2_100)]


async def test_records_that_are_deleted_while_they_are_read_come_from_the_archive(store: ArchiveStore) -> None:
    stored = archived(store, placed(EVENTS[:2_000]), ArchivedRange(0, 2_000))
    topic = await log_of(EVENTS)
    log = ArchivedLog(topic, stored, "market")
    topic.trimmed_while_reading = 1_000

    found = await log.read(TOPIC, 0, 500, 1_500)

    assert [at.offset for at, _ in found] == list(range(500, 1_500))


async def test_what_was_lost_before_it_was_archived_ends_the_past(store: ArchiveStore) -> None:
    whole = placed(EVENTS[:1_000]) + placed(EVENTS[1_200:1_500], 1_200)
    stored = archived(store, whole, ArchivedRange(0, 1_500).with_gap(1_000, 1_200))
    log = ArchivedLog(await log_of(EVENTS, 1_500), stored, "market")

    assert await log.begin_offset(TOPIC, 0) == 1_200


async def test_an_archive_that_does_not_reach_the_topic_is_left_out(store: ArchiveStore) -> None:
    stored = archived(store, placed(EVENTS[:1_000]), ArchivedRange(0, 1_000))

    assert await ArchivedLog(await log_of(EVENTS, 1_001), stored, "market").begin_offset(TOPIC, 0) == 1_001
    assert await ArchivedLog(await log_of(EVENTS, 1_000), stored, "market").begin_offset(TOPIC, 0) == 0


async def test_a_loop_without_recent_records_is_whole_as_far_as_its_partition_is_archived(store: ArchiveStore) -> None:
    stored = archived(store, placed(EVENTS[:100]), ArchivedRange(0, 2_000))
    log = ArchivedLog(await log_of(EVENTS, 2_000), stored, "market")

    assert await log.begin_offset(TOPIC, 0) == 0
    assert len(await log.read(TOPIC, 0, 0, 2_000)) == 100


async def test_a_loop_that_the_archive_does_not_know_is_read_from_the_topic(store: ArchiveStore) -> None:
    stored = archived(store, placed(EVENTS[:1_000]), ArchivedRange(0, 1_000))
    log = ArchivedLog(await log_of(EVENTS, 1_000), stored, "other")

    assert len(await log.read(TOPIC, 0, 1_000, 1_200)) == 200


async def test_commits_that_come_meanwhile_are_found_when_they_are_needed(store: ArchiveStore) -> None:
    stored = archived(store, placed(EVENTS[:1_000]), ArchivedRange(0, 1_000))
    topic = await log_of(EVENTS, 500)
    log = ArchivedLog(topic, stored, "market")
    assert len(await read_on(log, 0, 1_500)) == 1_500

    archive(store, "market", placed(EVENTS[1_000:2_000], 1_000))
    archive_reaches(store, ArchivedRange(0, 2_000))
    topic.begin = 2_000

    assert await log.begin_offset(TOPIC, 0) == 0
    assert len(await read_on(log, 0, 3_000)) == 3_000


async def test_a_reader_that_is_cancelled_disturbs_no_other(store: ArchiveStore) -> None:
    stored = archived(store, placed(EVENTS[:2_000]), ArchivedRange(0, 2_000))
    topic = await log_of(EVENTS, 2_000)
    other = ArchivedLog(topic, stored, "market")
    before = await read_on(other, 0, 700)
    reading = asyncio.create_task(read_on(ArchivedLog(topic, stored, "market"), 0, 3_000, step=50))
    await asyncio.sleep(0)

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert before + await read_on(other, 700, 3_000) == [(i, one.encode()) for i, one in enumerate(EVENTS)]
