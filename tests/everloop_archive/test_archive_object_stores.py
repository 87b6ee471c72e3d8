"""The archive on S3 and Google Cloud Storage: exclusive commits, and a store that is away and comes back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.builders.events import outcome_observed
from tests.everloop_archive.archiving import Placed, archive, placed
from tests.object_stores import ObjectStore

from everloop_archive.errors import ArchiveUnavailable, CommitConflict
from everloop_archive.layout import TableName, position_id
from everloop_archive.reader.tables import ArchivedTable
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_log import TableLog, TableState
from everloop_shared import file_systems

TABLE = TableName("outcomes", "churn")
POSITION = position_id(TABLE.topic, 0)
WRITERS = 8


def outcomes(start: int, stop: int) -> list[Placed]:
    found = (outcome_observed(f"p{n}", loop="churn", features={"a": float(n)}) for n in range(start, stop))
    return placed(found, start)


def test_of_many_writers_on_an_object_store_one_makes_the_commit(object_store: ObjectStore) -> None:
    def commit(number: int) -> str:
        log = TableLog(ArchiveStore(object_store.url), TABLE)
        try:
            log.commit(TableState(), [], {POSITION: number})
        except CommitConflict:
            return "lost"
        return "made"

    with ThreadPoolExecutor(WRITERS) as pool:
        came = list(pool.map(commit, range(WRITERS)))

    assert sorted(came) == ["lost"] * (WRITERS - 1) + ["made"]
    state = TableLog(ArchiveStore(object_store.url), TABLE).read()
    assert (state.version, state.positions[POSITION]) == (0, came.index("made"))


def test_what_was_archived_on_an_object_store_is_read_back_in_order(object_store: ObjectStore) -> None:
    store = ArchiveStore(object_store.url)
    archive(store, "churn", outcomes(0, 40), commits=4)

    table = ArchivedTable(ArchiveStore(object_store.url), TABLE)
    table.refresh()

    assert [r.offset for batch in table.records(0, 0) for r in batch] == list(range(40))


def test_a_store_that_is_away_is_unavailable_and_the_same_write_succeeds_when_it_is_back(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_systems, "CALL_S", 0.5)
    store = ArchiveStore(f"{object_store.url}/away")
    archive(store, "churn", outcomes(0, 10))
    object_store.relay.turn("away")

    with pytest.raises(ArchiveUnavailable, match="in the archive at") as raised:
        archive(store, "churn", outcomes(10, 20))
    assert "test-secret" not in raised.value.detail

    object_store.relay.turn("up")
    archive(store, "churn", outcomes(10, 20))
    table = ArchivedTable(store, TABLE)
    table.refresh()
    assert [r.offset for batch in table.records(0, 0) for r in batch] == list(range(20))
