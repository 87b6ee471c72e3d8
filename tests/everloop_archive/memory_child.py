"""Reads an archive within a limit on memory: `python -m tests.everloop_archive.memory_child FOLDER ROWS MB [all]`."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from tests.bench.archive_memory import read

from everloop_archive.layout import TableName
from everloop_archive.reader.tables import ArchivedTable
from everloop_archive.stores import ArchiveStore


def main(folder: str, rows: str, mb: str, *hold_all: str) -> None:
    """Read a data set as the service does, or, to see that the limit holds, with all records in memory."""
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    limit = size + int(mb) * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if hold_all:
        table = ArchivedTable(ArchiveStore(Path(folder).as_uri()), TableName("outcomes", "long"))
        table.refresh()
        sys.stdout.write(str(len(list(table.records(0, 0)))))
    else:
        sys.stdout.write("\n".join(asyncio.run(read(Path(folder), 0, int(rows)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
