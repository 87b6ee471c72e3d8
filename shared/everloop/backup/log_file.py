"""The file of one partition in a backup: read line by line, and checked whole before anything is written."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from everloop.backup.errors import BackupDamaged
from everloop.backup.manifest import Partition, TopicLog, opened
from everloop.backup.records import LogRecord, digest

LINE_BYTES = 128 * 1024 * 1024
"""The largest record that Kafka takes here, written in the longest way."""
FILLERS = 100_000_000
"""So many empty records at most bring a partition to its offsets."""


def records(source: Path, part: Partition) -> Iterator[LogRecord]:
    """The records, in order. Raises BackupDamaged for what is none, and for another number of them than was told."""
    count = 0
    try:
        with opened(source, part.file.path) as file, gzip.GzipFile(fileobj=file) as lines:
            while line := lines.readline(LINE_BYTES):
                count += 1
                record = LogRecord.of_line(line)
                if count > part.records or not _plain(record, part):
                    raise ValueError("it is not on the log that the manifest describes")
                yield record
    except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, zlib.error, RecursionError) as e:
        what = f"{part.file.path} holds what is no record, in line {count}: {e!r:.200}"
        raise BackupDamaged(what, "Use another backup.") from e
    if count != part.records:
        raise BackupDamaged(f"{part.file.path} holds {count:,} records instead of {part.records:,}.", "")


def check(source: Path, log: TopicLog, part: Partition) -> None:
    """Raises BackupDamaged unless the records are those that were saved, each at an offset that can be."""
    before, found = -1, digest(log.compacted)
    for record in records(source, part):
        if record.offset <= before:
            raise BackupDamaged(f"{part.file.path}: offset {record.offset} follows {before}.", "Use another backup.")
        before = record.offset
        found.add(record)
    if found.hex() != part.digest:
        raise BackupDamaged(f"{part.file.path} holds other records than were saved.", "Use another backup.")
    if not log.compacted and part.end - part.records > FILLERS:
        what = f"{part.file.path}: {part.records:,} records up to offset {part.end:,} need too many empty ones."
        raise BackupDamaged(what, "Use another backup.")


def _plain(record: LogRecord, part: Partition) -> bool:
    numbers = type(record.offset) is int and type(record.time) is int
    return numbers and part.start <= record.offset < part.end and 0 <= record.time < 1 << 62
