"""What the archives of all partitions share: the store, its tables, the loops' types, and threads for what blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from everloop_archive.columns import FieldTypes
from everloop_archive.layout import Kind, TableName
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_writer import TableWriter
from everloop_learning.loops import KnownLoops

P = ParamSpec("P")
T = TypeVar("T")
THREADS = 4
"""Tables that are written at once, and pieces of the log that become columns; a store that hangs takes no others."""


class ArchiveTables:
    """The tables of one archive, each opened when its first record comes."""

    def __init__(self, store: ArchiveStore, loops: KnownLoops) -> None:
        self.store, self._loops = store, loops
        self._tables: dict[TableName, TableWriter] = {}
        self._types: dict[str, tuple[int, FieldTypes]] = {}
        self._threads = ThreadPoolExecutor(THREADS, "archive")

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work that blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))

    def table(self, kind: Kind, loop: str) -> TableWriter:
        """The writer of a table."""
        name = TableName(kind, loop)
        return self._tables.setdefault(name, TableWriter(self.store, name))

    def types(self, loop: str, revision: int = 0) -> FieldTypes | None:
        """The types of a loop's fields by its present spec; None for a loop that is not known, or was deleted.

        None also where a spec of at least this revision has not arrived yet.
        """
        state = self._loops.get(loop)
        if state is None or state.revision < revision:
            return None
        known = self._types.get(loop)
        if known is None or known[0] != state.revision:
            known = self._types[loop] = (state.revision, FieldTypes.of(state.data.spec))
        return known[1]

    def life(self, loop: str, revision: int) -> int | None:
        """The first revision of the loop's lifetime that an event belongs to, None for an earlier lifetime."""
        state = self._loops.get(loop)
        if state is None or 0 < revision < state.data.life:
            return None
        return state.data.life

    def close(self) -> None:
        """Wait for nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
