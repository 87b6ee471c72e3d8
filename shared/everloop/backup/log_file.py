"""The file of one partition in a backup: read line by line, and checked whole before a restore writes anything."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from everloop.backup.errors import BackupDamaged
from everloop.backup.manifest import PartitionLog, TopicLog, open_plain
from everloop.backup.records import BackupRecord, digest

MAX_LINE_BYTES = 128 * 1024 * 1024
"""The largest record that Kafka accepts here, in its longest form."""
MAX_FILLERS = 100_000_000
"""The most empty records that a restore writes so that the others keep their offsets."""


def records(source: Path, part: PartitionLog) -> Iterator[BackupRecord]:
    """The records, in order. Raises BackupDamaged for a line that is no record, and when their number differs."""
    count = 0
    try:
        with open_plain(source, part.file.path) as file, gzip.GzipFile(fileobj=file) as lines:
            while line := lines.readline(MAX_LINE_BYTES):
                count += 1
                record = BackupRecord.of_line(line)
                if count > part.records or not _belongs(record, part):
                    raise ValueError("the manifest describes another log")
                yield record
    except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, zlib.error, RecursionError) as e:
        what = f"{part.file.path}, line {count}, is no record: {e!r:.200}"
        raise BackupDamaged(what, "Use another backup.") from e
    if count != part.records:
        raise BackupDamaged(f"{part.file.path} holds {count:,} records instead of {part.records:,}.", "")


def check(source: Path, log: TopicLog, part: PartitionLog) -> None:
    """Raises BackupDamaged unless the records are those that were saved, at increasing offsets."""
    before, found = -1, digest(log.compacted)
    for record in records(source, part):
        if record.offset <= before:
            raise BackupDamaged(f"{part.file.path}: offset {record.offset} follows {before}.", "Use another backup.")
        before = record.offset
        found.add(record)
    if found.hex() != part.digest:
        raise BackupDamaged(f"{part.file.path} holds other records than were saved.", "Use another backup.")
    if not log.compacted and part.end - part.records > MAX_FILLERS:
        what = f"{part.file.path}: {part.records:,} records up to offset {part.end:,} need too many empty ones."
        raise BackupDamaged(what, "Use another backup.")


def _belongs(record: BackupRecord, part: PartitionLog) -> bool:
    numbers = type(record.offset) is int and type(record.time) is int
    return numbers and part.start <= record.offset < part.end and 0 <= record.time < 1 << 62
