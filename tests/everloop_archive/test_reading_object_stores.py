"""Reading an archive on S3 and on Google Cloud Storage, whole, from the middle, and while the store goes away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.everloop_archive.archiving import archive, placed
from tests.object_stores import ObjectStore
from tests.training.training_harness import event

from everloop_archive.errors import ArchiveUnavailable
from everloop_archive.layout import TableName
from everloop_archive.reader.iceberg import open_catalog, register
from everloop_archive.reader.tables import ArchivedTable
from everloop_archive.reader.verify import verify
from everloop_archive.stores import ArchiveStore

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]
NAME = TableName("outcomes", "market")


def opened(url: str) -> ArchivedTable:
    table = ArchivedTable(ArchiveStore(url), NAME)
    table.refresh()
    return table


def test_records_are_read_from_any_offset_on(object_store: ObjectStore) -> None:
    archive(ArchiveStore(object_store.url), "market", placed(event(i) for i in range(2_000)), commits=2)

    for start in (0, 1_234):
        found = [record.offset for batch in opened(object_store.url).records(0, start) for record in batch]
        assert found == list(range(start, 2_000))
    assert verify(opened(object_store.url)).problems == []


def test_a_store_that_goes_away_while_it_is_read_is_no_damage(
    s3_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_store = s3_store.use(monkeypatch)
    archive(ArchiveStore(object_store.url), "market", placed(event(i) for i in range(2_000)), commits=2)
    records = opened(object_store.url).records(0, 0)
    next(records)

    object_store.relay.turn("away")
    with pytest.raises(ArchiveUnavailable, match="cannot read outcomes/loop=market"):
        list(records)
    object_store.relay.turn("up")

    assert sum(len(batch) for batch in opened(object_store.url).records(0, 0)) == 2_000


def test_iceberg_registers_files_on_s3(s3_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = ArchiveStore(s3_store.use(monkeypatch).url)
    archive(store, "market", placed(event(i) for i in range(100)))
    s3 = {"s3.endpoint": os.environ["AWS_ENDPOINT_URL"], "s3.region": "us-east-1"}
    s3 |= {"s3.access-key-id": "test-key", "s3.secret-access-key": "test-secret"}
    catalog = open_catalog(f"sqlite:///{tmp_path}/catalog.db", store.uri("_iceberg"), s3)

    done = register(opened(store.url), catalog, "everloop")

    assert (done.added, done.rows) == (1, 100)
    assert catalog.load_table(done.table).scan().count() == 100
