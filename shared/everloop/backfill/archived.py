"""The outcomes of an archive as history for a loop: features, labels, entities and ids as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from everloop.backfill.columns import HistoryColumns
from everloop.backfill.sources import SourceRow
from everloop.extras import require_data
from everloop.replay.rows import FileUnusable
from everloop_schemas.feature import OutcomeObserved
from everloop_shared.errors import ServiceError
from everloop_shared.personal import Vault

TIME, LABEL, ENTITY, ID = "outcome/time", "outcome/label", "outcome/entity", "outcome/id"
"""Names that no feature has."""
COLUMNS = HistoryColumns(TIME, LABEL, ENTITY, ID)


class ArchivedOutcomes:
    """The outcomes of one loop in an archive. Of several of a prediction the last correction counts.

    Personal values are opened by `vault`; the outcomes of erased persons, of which there were `erased`, are left out.
    """

    def __init__(self, url: str, loop: str, vault: Vault) -> None:
        require_data("everloop backfill", "pyarrow", "fsspec")
        from everloop_archive.layout import TableName
        from everloop_archive.reader.tables import ArchivedTable
        from everloop_archive.stores import ArchiveStore

        self._url, self._vault, self.erased = url, vault, 0
        with self._failures():
            self._table = ArchivedTable(ArchiveStore(url), TableName("outcomes", loop))
            self._table.refresh()
        if self._table.state.schema is None:
            raise FileUnusable(f"the archive at {url} has no outcomes of loop {loop}; name it by --from-loop")
        features = self._table.state.schema.field("features").type
        self.columns = (*(field.name for field in features), TIME, LABEL, ENTITY, ID)
        self.total: int | None = sum(file.rows for file in self._table.files())

    def rows(self) -> Iterator[SourceRow]:
        """The outcomes, partition by partition in the order of the log."""
        with self._failures():
            for partition in sorted({file.name.partition for file in self._table.files()}):
                for batch in self._table.records(partition, 0):
                    yield from filter(None, (self._row(record.value) for record in batch))

    def _row(self, record: bytes) -> SourceRow | None:
        data = json.loads(record)["data"]
        if not data.get("personal"):
            return _as_row(data, data["features"])
        opened = self._vault.open_event_now(OutcomeObserved.decode(record))
        if opened is None:
            self.erased += 1
            return None
        return _as_row(data, opened.data.features)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except ServiceError as e:
            raise FileUnusable(e.detail) from e


def is_archive(url: str) -> bool:
    """Whether an archive lies there."""
    from everloop_archive.stores import ArchiveStore

    try:
        return any(name.startswith("loop=") for name in ArchiveStore(url).names("outcomes"))
    except (ServiceError, OSError, ValueError, ImportError):
        return False


def _as_row(data: dict[str, Any], features: dict[str, Any]) -> SourceRow:
    own = {
        TIME: data["predicted"],
        LABEL: data.get("label"),
        ENTITY: data["entity"],
        ID: data["prediction_id"],
    }
    return SourceRow({**features, **own}, data.get("correction", 0) + 1)
