"""Archives of outcomes for tests, written by the writer's own code, without a service and a broker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.builders.loops import loop_spec

from everloop_archive.arrays import ArchivedRecord, record_batch
from everloop_archive.columns import FieldTypes, file_schema
from everloop_archive.data_files import RecordsToWrite
from everloop_archive.layout import Kind, TableName
from everloop_archive.positions import ArchivedRange, write_range
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_writer import TableWriter
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import PredictionMade
from everloop_shared.messaging.routes import Position

BATCH_ROWS = 1_000
SPEC = loop_spec(schema={"a": {"type": "number"}, "b": {"type": "number"}}, models=[])
Placed = tuple[int, OutcomeObserved | PredictionMade]
"""An event and its offset."""


def placed(events: Iterable[OutcomeObserved | PredictionMade], start: int = 0) -> list[Placed]:
    """Events at consecutive offsets."""
    return list(enumerate(events, start))


def archive(
    store: ArchiveStore,
    loop: str,
    records: Sequence[Placed],
    spec: LoopSpec = SPEC,
    kind: Kind = "outcomes",
    partition: int = 0,
    commits: int = 1,
) -> None:
    """Archive the records of one loop that lie at these offsets of a partition, in so many commits."""
    types, writer = FieldTypes.of(spec), TableWriter(store, TableName(kind, loop))
    writer.open(partition)
    schema, size = file_schema(writer.grow(types)), -(-len(records) // commits)
    for start in range(0, len(records), size):
        came = records_of(records[start : start + size], kind, partition)
        batches = [record_batch(schema, kind, types, came[n : n + BATCH_ROWS]) for n in range(0, len(came), BATCH_ROWS)]
        writer.write(RecordsToWrite.of(partition, batches))


def archive_reaches(store: ArchiveStore, archived: ArchivedRange, kind: Kind = "outcomes", partition: int = 0) -> None:
    """Let the archive say that it has a partition, with all of its loops."""
    write_range(store, kind, partition, archived)


def records_of(events: Sequence[Placed], kind: Kind = "outcomes", partition: int = 0) -> list[ArchivedRecord]:
    """The records of these events in a partition."""
    return [_record(offset, event, kind, partition) for offset, event in events]


def _record(offset: int, event: OutcomeObserved | PredictionMade, kind: Kind, partition: int) -> ArchivedRecord:
    value = event.encode()
    at = Position(event.topic.name, partition, offset, 1_764_000_000_000 + offset, len(value))
    return ArchivedRecord(at, event, value, 1)
