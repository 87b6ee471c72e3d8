"""Removes the files that a writer of a partition was writing when it was killed. Blocks."""

from __future__ import annotations

import json
import logging
import time

from everloop_archive.errors import CommitConflict
from everloop_archive.layout import Kind, TableName, owner_id, unfinished_folder
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_log import TableLog
from everloop_schemas.names import is_loop_name

log = logging.getLogger(__name__)
FORGET_AFTER_S = 3600.0
"""A list of unfinished files is kept for so long: a writer that was taken for dead may still write one of them."""


def remove_unfinished(store: ArchiveStore, kind: Kind, partition: int) -> int:
    """Remove files that were being written when their writer was killed, and return how many.

    Their table gets a commit that says so first: a writer that is alive after all then loses its own commit, so that
    no commit ever names a file that is removed here.
    """
    folder, removed = unfinished_folder(kind, partition), 0
    for name in store.names(folder):
        data = store.read(f"{folder}/{name}")
        try:
            found = json.loads(data or b"")
            loop, files, at = str(found["loop"]), set(map(str, found["files"])), float(found["at"])
        except (ValueError, KeyError, TypeError) as e:
            log.warning("a list of unfinished files cannot be read", extra={"name": name, "reason": repr(e)})
            continue
        table = TableName(kind, loop)
        unfinished = _disown(TableLog(store, table), partition, files) if is_loop_name(loop) else set()
        for file in unfinished:
            store.delete(f"{table.folder}/{file}")
        removed += len(unfinished)
        if not unfinished or time.time() - at > FORGET_AFTER_S:
            store.delete(f"{folder}/{name}")
    return removed


def _disown(table_log: TableLog, partition: int, files: set[str]) -> set[str]:
    """Those of the files that no commit names, and no commit of the present owner of a partition can name any more."""
    owner = owner_id(table_log.table.topic, partition)
    while True:
        state, named = table_log.read_with_files()
        unfinished = files - {file.name.path for file in named}
        if not unfinished or state.version < 0:
            return set()
        try:
            table_log.commit(state, [], {owner: state.positions.get(owner, 0) + 1}, operation="CHANGE OWNER")
        except CommitConflict:
            continue
        return unfinished
