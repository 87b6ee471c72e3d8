"""How much memory it takes to archive a long history, and to read it back past the log's retention, row for row.

The two run in processes of their own, and archive and read as the training service does, without a broker.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure, at_most
from tests.bench.settings import Settings
from tests.builders.loops import loop_spec, loop_state

from everloop_archive.arrays import ArchivedRecord
from everloop_archive.buffers import TableBuffer
from everloop_archive.columns import FieldTypes
from everloop_archive.layout import TableName
from everloop_archive.positions import ArchivedRange, write_range
from everloop_archive.reader.archived_log import ArchivedLog
from everloop_archive.reader.stored import StoredArchive
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_writer import TableWriter
from everloop_learning.data_set import Row, RowsDigest
from everloop_learning.loops import KnownLoops
from everloop_schemas.envelope import Event, Topic
from everloop_schemas.feature import OutcomeObserved, OutcomeObservedData
from everloop_schemas.training import DataSet
from everloop_shared.messaging.routes import Position
from everloop_training.adapters.data_sets import DataSets

LOOP = "long"
LIMIT_MB = 1_000
DIGEST_ROWS = 1_000_000
"""Digests are of so many rows each, so that writing may go on in another process."""
PER_DAY = 100_000
BUFFERED_BYTES = 32_000_000
"""As with the default of EVERLOOP_ARCHIVE_BYTES, half of which is written at once."""
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
NUMBERS = [f"n{i}" for i in range(8)]
SPEC = loop_spec(
    loop=LOOP, schema={**{name: {"type": "number"} for name in NUMBERS}, "plan": {"type": "string"}}, models=[]
)


async def measure(settings: Settings) -> list[Figure]:
    """Write, read, and compare the digests."""
    folder, rows = settings.folder / "archive-memory", settings.archive_memory_rows
    written = await _child("write", folder, 0, rows)
    found = await _child("read", folder, 0, rows)
    if written["digests"] != found["digests"]:
        raise AssertionError("what was read is not what was archived")
    return [
        at_most(
            f"{verb} {rows:,} outcomes",
            [one["mb"]],
            LIMIT_MB,
            "MB resident",
            f"{rows / one['cpu_s']:,.0f} outcomes per second of CPU",
        )
        for verb, one in (("archiving", written), ("reading back", found))
    ]


async def _child(verb: str, folder: Path, start: int, stop: int) -> dict[str, Any]:
    command = (sys.executable, "-m", "tests.bench.archive_memory", verb, str(folder), str(start), str(stop))
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    if child.returncode:
        raise RuntimeError(f"{verb} ended with status {child.returncode}")
    answer: dict[str, Any] = json.loads(out)
    return answer


def outcome(i: int) -> OutcomeObserved:
    """The i-th outcome: eight numbers and a text, a label, one shadow; the same on every call."""
    when = BEGIN + timedelta(seconds=i * 86_400 / PER_DAY)
    features = {name: (i * (n + 3) % 10_007) / 97 for n, name in enumerate(NUMBERS)}
    data = OutcomeObservedData(
        prediction_id=f"order-{i}",
        entity=f"customer-{i % 50_000}",
        label=i % 3 == 0,
        labelled=when,
        predicted=when,
        features={**features, "plan": "basic" if i % 4 else "gold"},
        prediction=i % 2 == 0,
        probabilities={"false": 0.25, "true": 0.75},
        version=f"logistic-0@{i // 2_000 * 2_000}",
        role="champion",
        propensity=1.0,
    )
    ident = f"{i:08x}-0000-5000-8000-000000000000"
    return OutcomeObserved(id=ident, time=when, subject=f"order-{i}", loop=LOOP, revision=1, data=data)


def write(folder: Path, start: int, stop: int) -> list[str]:
    """Archive outcomes from `start` to before `stop`; returns the digests of their rows."""
    store, digests = ArchiveStore(folder.as_uri()), _Digests()
    writer, types = TableWriter(store, TableName("outcomes", LOOP)), FieldTypes.of(SPEC)
    writer.open(0)
    buffer = TableBuffer(writer, 0)
    for first in range(start, stop, 1_000):
        records = list(_records(range(first, min(first + 1_000, stop))))
        digests.add([_row(record) for record in records])
        buffer.add(records, types)
        if buffer.size >= BUFFERED_BYTES:
            _flush(writer, buffer, types)
    _flush(writer, buffer, types)
    write_range(store, "outcomes", 0, ArchivedRange(0, stop))
    return digests.all()


async def read(folder: Path, start: int, stop: int) -> list[str]:
    """Read a data set of a log that has lost all of it; returns the digests of the rows."""
    loops, digests = KnownLoops(), _Digests()
    loops.apply(loop_state(SPEC))
    archive, log = StoredArchive(ArchiveStore(folder.as_uri())), EmptiedLog(stop)
    data_sets = DataSets(loops, log, lambda loop: ArchivedLog(log, archive, loop))
    async for rows in data_sets.rows(DataSet(loop=LOOP, start=start, end=stop - 1, revision=1)):
        digests.add(rows)
    return digests.all()


class EmptiedLog:
    """A log whose records, up to an offset, were all deleted."""

    def __init__(self, end: int) -> None:
        self._end = end

    async def read(self, topic: Topic, partition: int, start: int, stop: int) -> list[tuple[Position, Event]]:
        """Nothing."""
        return []

    async def begin_offset(self, topic: Topic, partition: int) -> int:
        """The end."""
        return self._end

    async def end_offset(self, topic: Topic, partition: int) -> int:
        """The end."""
        return self._end

    def partition_for(self, topic: Topic, key: bytes) -> int:
        """There is one."""
        return 0


class _Digests:
    """The digests of rows, each of DIGEST_ROWS of them."""

    def __init__(self) -> None:
        self._done, self._now = list[str](), RowsDigest()

    def add(self, rows: list[Row]) -> None:
        """Take in the next rows."""
        for row in rows:
            self._now.add([row.encode()])
            if self._now.rows == DIGEST_ROWS:
                self._done.append(self._now.hexdigest())
                self._now = RowsDigest()

    def all(self) -> list[str]:
        """Those that are complete, and the last one."""
        return [*self._done, *([self._now.hexdigest()] if self._now.rows else [])]


def _records(offsets: range) -> Iterator[ArchivedRecord]:
    for offset in offsets:
        event = outcome(offset)
        value = event.encode()
        yield ArchivedRecord(Position(event.topic.name, 0, offset, 1_764_000_000_000, len(value)), event, value, 1)


def _row(record: ArchivedRecord) -> Row:
    data = record.event.data
    assert isinstance(data, OutcomeObservedData)
    assert data.label is not None
    return Row(record.at.offset, data.predicted, data.prediction_id, data.features, data.label)


def _flush(writer: TableWriter, buffer: TableBuffer, types: FieldTypes) -> None:
    records = buffer.take(types)
    if records is not None:
        writer.write(records)
        buffer.written()


def main(verb: str, folder: str, start: str, stop: str) -> None:
    """Write or read, and print digests, peak of resident memory, and CPU time as JSON."""
    began, where, offsets = time.process_time(), Path(folder), (int(start), int(stop))
    digests = write(where, *offsets) if verb == "write" else asyncio.run(read(where, *offsets))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mb = peak * 1.024 / 1_000 if sys.platform == "linux" else peak / 1_000_000  # KiB there, bytes on macOS
    sys.stdout.write(json.dumps({"digests": digests, "mb": peak_mb, "cpu_s": time.process_time() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
