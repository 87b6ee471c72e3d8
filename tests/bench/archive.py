"""Archiving outcomes on the local disk, beside bare pyarrow, which writes the same columns from values in memory."""

from __future__ import annotations

import asyncio
import gc
import shutil
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from tests.bench import stream
from tests.bench.figures import Figure, Sample, against
from tests.bench.settings import Settings
from tests.builders.events import outcome_observed
from tests.builders.loops import loop_state

from everloop_archive.layout import TableName
from everloop_archive.positions import read_range
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_log import TableLog
from everloop_learning.loops import KnownLoops
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import Shadow
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.tasks import cancel_all
from everloop_training.adapters.archive import Archiver, archiver
from everloop_training.settings import TrainingSettings

FILES = 4
GOAL = 0.5
NOTE = "ours: from records, decoded, exactly once; bare: from Python values, by column"


async def measure(settings: Settings) -> list[Figure]:
    """Both in turn, so many times."""
    spec, count = LoopSpec.model_validate(stream.spec()), settings.archive_outcomes
    broker = MemoryBroker(partitions=1)
    for number, (_, fields, label) in enumerate(stream.rows(count)):
        event = _outcome(spec, number, fields, label)
        await broker.append(event.topic.name, event.key(), event.encode())
    archiver.IDLE_S = 0.05
    warm = settings.folder / "archive"
    await _archive(broker, spec, count, warm)
    values, schema = await asyncio.to_thread(_values, warm, spec.loop)
    gc.freeze()  # only the bare side has these values: ours should not pay for looking through them
    ours, bare = list[Sample](), list[Sample]()
    for run in range(settings.runs):
        folder = settings.folder / f"archive-{run}"
        ours.append(await _timed(count, _archive(broker, spec, count, folder)))
        bare.append(await _timed(count, asyncio.to_thread(_write, values, schema, folder)))
        shutil.rmtree(folder)
    gc.unfreeze()
    return [against("archive, outcomes to Parquet", ours, bare, GOAL, NOTE)]


def _outcome(spec: LoopSpec, number: int, fields: Any, label: Any) -> OutcomeObserved:
    p = (number % 997) / 997
    shadow = Shadow(version="tree-0@100", prediction=not label, probabilities={"false": p, "true": 1 - p})
    return outcome_observed(
        f"{number:032x}",
        label,
        loop=spec.loop,
        entity=f"entity-{number % 500}",
        features=fields,
        probabilities={"false": 1 - p, "true": p},
        version="logistic-0@100",
        shadows=[shadow],
    )


async def _timed(count: int, work: Coroutine[Any, Any, None]) -> Sample:
    wall, cpu = time.perf_counter(), time.process_time()
    await work
    return Sample(count / (time.perf_counter() - wall), (time.process_time() - cpu) / count * 1e6)


async def _archive(broker: MemoryBroker, spec: LoopSpec, count: int, folder: Path) -> None:
    loops = KnownLoops()
    loops.apply(loop_state(spec))
    settings = TrainingSettings(archive=folder.as_uri(), archive_rows=count // FILES, archive_bytes=1_000_000_000)
    work = Archiver(settings, loops, broker.engine("archive"), lambda: [0])
    running = asyncio.create_task(work.run())
    while not running.done() and [a.next_offset for a in work.partitions.values() if a.kind == "outcomes"] != [count]:
        await asyncio.sleep(0.01)
    await cancel_all([running])  # which writes the rest
    archived = read_range(ArchiveStore(settings.archive), "outcomes", 0)
    assert archived is not None
    assert archived.next == count


def _values(folder: Path, loop: str) -> tuple[list[list[Any]], Any]:
    """What the archive holds, as Python values by column."""
    table = TableName("outcomes", loop)
    files = TableLog(ArchiveStore(folder.as_uri()), table).files()
    rows = pa.concat_tables([pq.read_table(folder / table.folder / f.name.path, partitioning=None) for f in files])
    return [column.to_pylist(maps_as_pydicts=None) for column in rows.columns], rows.schema


def _write(values: list[list[Any]], schema: Any, folder: Path) -> None:
    size = -(-len(values[0]) // FILES)
    for start in range(0, len(values[0]), size):
        arrays = [pa.array(some[start : start + size], type=f.type) for some, f in zip(values, schema, strict=True)]
        table = pa.Table.from_arrays(arrays, schema=schema)
        pq.write_table(table, folder / f"bare-{start}.parquet", compression="zstd")
