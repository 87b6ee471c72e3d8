"""What a commit names stays, wherever the store fails after the commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from tests.builders.events import outcome_observed
from tests.everloop_archive.archiving import BATCH_ROWS, SPEC, placed, records_of

from everloop_archive.arrays import record_batch
from everloop_archive.columns import FieldTypes, file_schema
from everloop_archive.data_files import RecordsToWrite
from everloop_archive.errors import ArchiveUnavailable
from everloop_archive.layout import TableName
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_log import TableLog
from everloop_archive.table_writer import TableWriter

TABLE = TableName("outcomes", "shop")


class FailingStore(ArchiveStore):
    """Fails once, after so many operations more, without or after having done it."""

    def __init__(self, url: str, after: bool) -> None:
        super().__init__(url)
        self.fails_in, self._after = -1, after

    def read(self, name: str) -> bytes | None:
        return bytes(found) if (found := self._do(super().read, name)) is not None else None

    def create(self, name: str, data: bytes) -> bool:
        return bool(self._do(super().create, name, data))

    def write(self, name: str, data: bytes) -> None:
        self._do(super().write, name, data)

    def delete(self, name: str) -> None:
        self._do(super().delete, name)

    def names(self, folder: str) -> list[str]:
        return list(self._do(super().names, folder))

    def _do(self, operation: Any, *arguments: Any) -> Any:
        fails = self.fails_in == 0
        self.fails_in -= 1
        done = None if fails and not self._after else operation(*arguments)
        if fails:
            raise ArchiveUnavailable("away for a moment")
        return done


def write(store: FailingStore, fails_in: int, *, reopens: bool) -> bool:
    """Write ten outcomes and repeat it while the store is away; whether it was. A second partition may be opened."""
    types, away = FieldTypes.of(SPEC), False
    writer = TableWriter(store, TABLE)
    writer.open(0)
    store.fails_in = fails_in
    came = records_of(placed([outcome_observed(f"p{n}", True, loop="shop") for n in range(10)]))
    batch = record_batch(file_schema(writer.grow(types)), "outcomes", types, came[:BATCH_ROWS])
    records = RecordsToWrite.of(0, [batch])
    while True:
        try:
            writer.write(records)
            return away
        except ArchiveUnavailable:
            away = True
        if reopens:
            writer.open(1)


@pytest.mark.parametrize("reopens", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_each_record_is_archived_once_wherever_the_store_is_away_for_a_moment(
    tmp_path: Path, after: bool, reopens: bool
) -> None:
    for fails_at in range(100):
        url = (tmp_path / f"{fails_at}").as_uri()

        was_away = write(FailingStore(url, after), fails_at, reopens=reopens)

        folder = tmp_path / f"{fails_at}" / TABLE.folder
        files = TableLog(ArchiveStore(url), TABLE).files()
        rows = [o for f in files for o in pq.read_table(folder / f.name.path, partitioning=None)["offset"].to_pylist()]
        assert rows == list(range(10)), f"operation {fails_at}"
        if not was_away:
            break
    assert fails_at > 5
