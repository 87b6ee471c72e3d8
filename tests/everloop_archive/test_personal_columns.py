"""Sealed values in the archive: a column of tokens, nothing in clear, and history that is opened with the keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.builders.personal import bytes_below, vault_of
from tests.everloop_archive.archiving import archive, placed
from tests.training.personal_outcomes import clear, entity, found_in, personal_spec, sealed

from everloop.backfill.archived import ArchivedOutcomes
from everloop.replay.rows import FileUnusable
from everloop_archive.columns import FieldTypes, grown_schema
from everloop_archive.layout import TableName
from everloop_archive.reader.tables import ArchivedTable
from everloop_archive.reader.verify import verify
from everloop_archive.stores import ArchiveStore
from everloop_shared.personal import Vault

TYPES = FieldTypes("boolean", {"a": "number", "b": "number"})


def archived(folder: Path, vault: Vault) -> ArchiveStore:
    store = ArchiveStore((folder / "lake").as_uri())
    archive(store, "market", placed(sealed(vault, 0, 24)), personal_spec())
    return store


def rows_of(store: ArchiveStore) -> list[dict[str, Any]]:
    from everloop_archive.reader.file_records import FileRecords

    table = ArchivedTable(store, TableName("outcomes", "market"))
    table.refresh()
    files = [FileRecords(store, table.name.folder, file) for file in table.files()]
    return [row for file in files for batch in file.columns() for row in batch.to_pylist()]


def test_the_personal_column_has_the_token_and_those_of_personal_features_are_null(tmp_path: Path) -> None:
    vault = vault_of(tmp_path)
    store = archived(tmp_path, vault)

    rows = rows_of(store)

    assert len(rows) == 24
    assert all(row["features"]["b"] is None and row["features"]["a"] is not None for row in rows)
    assert [vault.unseal_now("market", entity(i), row["personal"])["features"] for i, row in enumerate(rows)] == [  # type: ignore[index]
        {"b": clear(i).data.features["b"]} for i in range(24)
    ]
    assert found_in(bytes_below(tmp_path / "lake"), range(24)) == []
    table = ArchivedTable(store, TableName("outcomes", "market"))
    assert verify(table).problems == []


def test_only_tables_of_loops_with_personal_fields_have_the_column_and_it_stays() -> None:
    before = grown_schema(None, "outcomes", TYPES)

    grown = grown_schema(before, "outcomes", FieldTypes("boolean", TYPES.features, personal=True))

    assert "personal" not in before.names
    assert grown.names == [*before.names, "personal"]
    assert grown_schema(grown, "outcomes", TYPES).names == grown.names
    assert FieldTypes.of(personal_spec()).personal


def test_history_from_an_archive_is_opened_and_lacks_who_was_erased(tmp_path: Path) -> None:
    vault = vault_of(tmp_path)
    store = archived(tmp_path, vault)
    vault.erase("market", entity(3))
    history = ArchivedOutcomes(store.url, "market", vault)

    rows = list(history.rows())

    kept = [i for i in range(24) if entity(i) != entity(3)]
    assert [row.values["b"] for row in rows] == [clear(i).data.features["b"] for i in kept]
    assert history.erased == 24 - len(kept)
    with pytest.raises(FileUnusable, match="EVERLOOP_PERSONAL_MASTER_KEY"):
        list(ArchivedOutcomes(store.url, "market", Vault("", None)).rows())
