"""How far each partition is archived over all loops, and which records are lost: a small file for each partition."""

from __future__ import annotations

import json
from typing import NamedTuple

from everloop_archive.errors import ArchiveCorrupt
from everloop_archive.layout import Kind, position_path
from everloop_archive.stores import ArchiveStore

GAPS_KEPT = 100


class ArchivedRange(NamedTuple):
    """Every record of a partition with begin <= offset < next is in the archive, except those of the gaps.

    A gap is a range of offsets, (first, the one after the last), that retention deleted before they were archived.
    Each table's own position is in its log, and may be behind `next` where no record of its loop came since.
    """

    begin: int
    next: int
    gaps: tuple[tuple[int, int], ...] = ()

    def with_gap(self, first: int, stop: int) -> ArchivedRange:
        """The range, where offsets from `first` to the one before `stop` were lost; of many gaps, the last ones."""
        return self._replace(gaps=(*self.gaps, (first, stop))[-GAPS_KEPT:])

    @property
    def whole_from(self) -> int:
        """The first offset after which nothing is lost."""
        return self.gaps[-1][1] if self.gaps else self.begin


def read_range(store: ArchiveStore, kind: Kind, partition: int) -> ArchivedRange | None:
    """What is archived of a partition, None where nothing is yet. Raises ArchiveUnavailable, ArchiveCorrupt."""
    path = position_path(kind, partition)
    data = store.read(path)
    if data is None:
        return None
    try:
        found = json.loads(data)
        return ArchivedRange(found["begin"], found["next"], tuple((a, b) for a, b in found["gaps"]))
    except (ValueError, KeyError, TypeError) as e:
        raise ArchiveCorrupt(f"{path} in the archive at {store.url} cannot be read: {e!r}") from e


def write_range(store: ArchiveStore, kind: Kind, partition: int, archived: ArchivedRange) -> None:
    """Write what is archived of a partition, once the tables have it. Raises ArchiveUnavailable."""
    store.write(position_path(kind, partition), json.dumps(archived._asdict()).encode())
