"""Rows of a keyed store on disk, in RocksDB: a copy of the changelog, safe to delete (decision 0150)."""

from __future__ import annotations

import ctypes
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
)

from everloop_shared.errors import Unavailable

log = logging.getLogger(__name__)
FORMAT = "1"
FORMAT_ROW = b"!format"
BLOCK_CACHE_BYTES = 128_000_000
"""Blocks, their indexes and their filters, of all databases of the process together."""
WRITE_BUFFER_BYTES = 16_000_000
MAX_WAL_BYTES = 64_000_000
OPEN_FILES = 256
COMPACTION = {  # for a state that is read and written, and for one that is only loaded
    False: {
        "level0_file_num_compaction_trigger": "4",
        "level0_slowdown_writes_trigger": "20",
        "level0_stop_writes_trigger": "36",
    },
    True: {
        "level0_file_num_compaction_trigger": "40",
        "level0_slowdown_writes_trigger": "80",
        "level0_stop_writes_trigger": "120",
    },
}
M_MMAP_THRESHOLD, GIVE_BACK_BYTES = -3, 1 << 19
"""Of glibc's mallopt(3): freed blocks of this size go back to the system; RocksDB's write buffers have such of 1 MB.

By itself glibc keeps what it once was given, up to 32 MB a block: 26 MB stayed of buffers that had 5 MB left.
"""
CORRUPT = "CORRUPT"
"""A file of this name says that the folder is to be deleted at the next start."""
SIGNS_OF_CORRUPTION = ("corruption", "invalid argument", "not implemented", "no such file")

_cache = Cache(BLOCK_CACHE_BYTES)


class DiskStorage:
    """A database in a folder of its own.

    Every write goes to RocksDB's own log first, without fsync: after `kill -9` all of them are there, after a power
    failure the first of them up to some point. Both are states that the store had. A write that fails, as on a full
    disk, closes the database; the next access opens it again. A database that is corrupt, or of another format, is
    deleted at the start.
    """

    def __init__(self, folder: Path, layout: str) -> None:
        self._folder, self._format = folder, f"{FORMAT} {layout}".encode()
        self._database: Rdict | None = None
        self._written = 0
        self._loads = False
        self.failure: str | None = None
        self.corrupt = False

    def open(self) -> None:
        """Open the database, a new one where the folder has none that can be used."""
        with suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, GIVE_BACK_BYTES)
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        if (self._folder / CORRUPT).exists():
            self._delete("it was found corrupt")
        try:
            database = self._connect()
        except Exception as e:
            if not _is_corruption(e):
                raise self._unavailable("opened", e) from e
            self._delete(str(e))
            database = self._connect()
        found = database.get(FORMAT_ROW)
        if found not in (None, self._format):
            database.close()
            self._delete(f"it has format {found!r}")
            database = self._connect()
        database.put(FORMAT_ROW, self._format)
        self._use(database)

    def close(self) -> None:
        """Close the database."""
        database, self._database = self._database, None
        if database is not None:
            with suppress(Exception):  # what it could not write; it is closed all the same
                database.close()

    @property
    def buffered_bytes(self) -> int:
        """Memory of what was written and is not in a file yet; 0 where the database is closed."""
        database = self._database
        return 0 if database is None else int(database.property_int_value("rocksdb.size-all-mem-tables") or 0)

    def load(self, many: bool) -> None:
        """Whether very much is about to be written, and little read: then it is sorted in ten times larger pieces.

        In small ones, what was written before would be read and written again a dozen times.
        """
        if many != self._loads and self._database is not None:
            self._loads = many
            self._database.set_options(COMPACTION[many])

    def probe(self) -> None:
        """Write something, to see whether that works again; raises Unavailable where it does not."""
        self.write({FORMAT_ROW: self._format})

    def get(self, name: bytes) -> bytes | None:
        """The value."""
        database = self._opened()
        try:
            value: bytes | None = database.get(name)
        except Exception as e:
            raise self._failed("read", e) from e
        return value

    def get_many(self, names: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values."""
        database = self._opened()
        try:
            return list(database.get(list(names)) or ())
        except Exception as e:
            raise self._failed("read", e) from e

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The rows as of now."""
        database, options = self._opened(), ReadOptions()
        options.set_iterate_upper_bound(stop)
        rows = database.iter(options)
        try:
            rows.seek(start)
            while rows.valid():
                yield rows.key(), rows.value()
                rows.next()
            rows.status()
        except Exception as e:
            raise self._failed("read", e) from e

    def write(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Write them in one batch."""
        batch = WriteBatch(raw_mode=True)
        for name, value in rows.items():
            if value is None:
                batch.delete(name)
            else:
                batch.put(name, value)
        self._write(batch)

    def delete_range(self, start: bytes, stop: bytes) -> None:
        """Delete them."""
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(start, stop)
        self._write(batch)

    def _write(self, batch: WriteBatch) -> None:
        database = self._opened()
        try:
            database.write(batch)
            self._written = database.latest_sequence_number()
        except Exception as e:
            raise self._failed("written", e) from e
        self.failure = None

    def _opened(self) -> Rdict:
        if self._database is not None:
            return self._database
        try:
            database = self._connect()
        except Exception as e:
            raise self._failed("opened", e) from e
        if database.latest_sequence_number() < self._written:
            database.close()
            raise self._corrupted("it lost what was written")
        return self._use(database)

    def _use(self, database: Rdict) -> Rdict:
        self._database, self._loads = database, False
        self._written = database.latest_sequence_number()
        return database

    def _connect(self) -> Rdict:
        return Rdict(str(self._folder), _options())

    def _failed(self, what: str, error: Exception) -> Unavailable:
        """Close the database, so that the next access begins with what is really on disk."""
        self.close()
        return self._corrupted(str(error)) if _is_corruption(error) else self._unavailable(what, error)

    def _unavailable(self, what: str, error: Exception) -> Unavailable:
        if self.failure is None:
            log.warning("the state on disk fails", extra={"reason": str(error)})
        self.failure = f"the state in {self._folder} cannot be {what}: {error}"
        return Unavailable(self.failure)

    def _corrupted(self, reason: str) -> Unavailable:
        self.corrupt = True
        self.failure = f"the state in {self._folder} is corrupt, and is read from the changelog again: {reason}"
        log.error(self.failure)
        (self._folder / CORRUPT).touch()
        return Unavailable(self.failure)

    def _delete(self, reason: str) -> None:
        log.warning("the state on disk is deleted and read from the changelog again", extra={"reason": reason})
        shutil.rmtree(self._folder)


def _is_corruption(error: Exception) -> bool:
    return any(sign in str(error).lower() for sign in SIGNS_OF_CORRUPTION)


def _options() -> Options:
    """Little memory: everything that grows with the state is in the one cache, which is limited."""
    blocks = BlockBasedOptions()
    blocks.set_block_cache(_cache)
    blocks.set_bloom_filter(10, False)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    # One read takes 4 kB of index and filter into the cache, not those of the whole file, a hundred times as much.
    blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
    blocks.set_partition_filters(True)
    blocks.set_pin_top_level_index_and_filter(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(3)
    options.set_max_total_wal_size(MAX_WAL_BYTES)
    options.set_max_open_files(OPEN_FILES)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    options.set_stats_dump_period_sec(0)
    return options
