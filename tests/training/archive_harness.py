"""What the tests of the archiver share: an archiver over a memory broker, and what its archive says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from tests.builders.loops import NOW
from tests.builders.running import until
from tests.training.training_harness import event

from everloop_archive.layout import Kind, TableName
from everloop_archive.positions import read_range
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_log import TableLog
from everloop_learning.loops import KnownLoops
from everloop_schemas.envelope import Event
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.registry import LoopState
from everloop_shared.messaging.memory import MemoryBroker, MemoryEngine
from everloop_shared.tasks import cancel_all
from everloop_training.adapters.archive import Archiver, archiver
from everloop_training.settings import TrainingSettings


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let archivers of this test look for work all the time."""
    monkeypatch.setattr(archiver, "IDLE_S", 0.01)


@dataclass
class Archive:
    """An archive at a URL."""

    url: str
    store: ArchiveStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = ArchiveStore(self.url)

    def rows(self, kind: Kind = "outcomes", loop: str = "market") -> list[dict[str, Any]]:
        """The rows that the commits of a table name, by partition and offset."""
        table = TableName(kind, loop)
        files = TableLog(self.store, table).files()
        tables = [pq.read_table(self.store.open(f"{table.folder}/{f.name.path}")) for f in files]
        rows = [row for rows in tables for row in rows.to_pylist(maps_as_pydicts="strict")]
        return sorted(rows, key=lambda row: (row["partition"], row["offset"]))

    def offsets(self, kind: Kind = "outcomes", loop: str = "market", partition: int = 0) -> list[int]:
        """The offsets of a partition that a table has, each as often as it has it."""
        return [row["offset"] for row in self.rows(kind, loop) if row["partition"] == partition]

    def data_files(self) -> set[str]:
        """Every data file in the store, whether a commit names it or not."""
        root = self.store.path("")
        found = [name.removeprefix(root) for name in self.store.fs.find(root)]
        return {name for name in found if name.endswith(".parquet") and "_delta_log" not in name}

    def named_files(self, *tables: TableName) -> set[str]:
        """The data files that commits of these tables name."""
        logs = [(table, TableLog(self.store, table)) for table in tables]
        return {f"{table.folder}/{file.name.path}" for table, log in logs for file in log.files()}

    def next_offset(self, partition: int = 0, kind: Kind = "outcomes") -> int:
        """How far a partition is archived."""
        found = read_range(self.store, kind, partition)
        return found.next if found else 0


@dataclass
class RunningArchiver:
    """An archiver that runs, and the archive that it writes."""

    archiver: Archiver
    broker: MemoryBroker
    loops: KnownLoops
    archive: Archive
    task: asyncio.Task[None]
    assigned: list[int]

    async def publish(self, events: Iterable[Event]) -> None:
        """Append events to the log."""
        for one in events:
            await self.broker.append(one.topic.name, one.key(), one.encode())

    async def until_archived(self, next_offset: int, partition: int = 0, kind: Kind = "outcomes") -> None:
        """Wait until a partition is archived so far."""
        await until(lambda: self.task.done() or self.archive.next_offset(partition, kind) >= next_offset, 30.0)

    async def until_read(self, next_offset: int, partition: int = 0, kind: Kind = "outcomes") -> None:
        """Wait until a partition is read so far."""

        def is_read() -> bool:
            found = self.archiver.partitions.get((kind, partition))
            return found is not None and (found.next_offset or 0) >= next_offset

        await until(is_read, 30.0)

    async def stop(self) -> None:
        """Stop it as a service is stopped."""
        await cancel_all([self.task])


@asynccontextmanager
async def archiving(
    url: str | Path,
    *states: LoopState,
    broker: MemoryBroker | None = None,
    engine: MemoryEngine | None = None,
    **settings: Any,
) -> AsyncIterator[RunningArchiver]:
    """An archiver of all partitions of a broker, which has one unless it is given."""
    url = url.as_uri() if isinstance(url, Path) else url
    broker, loops = broker or (engine.broker if engine else MemoryBroker(partitions=1)), KnownLoops()
    for state in states:
        loops.apply(state)
    assigned = list(range(broker.partitions))
    chosen = TrainingSettings.model_validate({"archive": url, "archive_seconds": 0.05, **settings})
    made = Archiver(chosen, loops, engine or broker.engine("archive"), lambda: assigned)
    running = RunningArchiver(made, broker, loops, Archive(url), asyncio.create_task(made.run()), assigned)
    try:
        yield running
    finally:
        await running.stop()


def days_of_outcomes(count: int, start: int = 0) -> list[OutcomeObserved]:
    """Outcomes of three days, in turn."""
    return [event(i, predicted=NOW + timedelta(days=i % 3)) for i in range(start, start + count)]
