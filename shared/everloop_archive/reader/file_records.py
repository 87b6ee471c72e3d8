"""Reads the records in one data file, some thousand at a time, and names the file where it cannot be read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from everloop_archive.errors import ArchiveCorrupt, ArchiveUnavailable
from everloop_archive.reader.merged import Batch, StoredRecord
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_log import DataFile

BATCH_ROWS, BATCH_BYTES = 2_000, 4_000_000
"""Of one batch, at most, unless a single record is larger."""
OFFSET, APPENDED, RECORD = COLUMNS = "offset", "appended", "record"
NO_LIMIT = 2**63


class FileRecords:
    """The records of one data file from the offset `start` on. Raises ArchiveCorrupt, and ArchiveUnavailable."""

    def __init__(self, store: ArchiveStore, folder: str, file: DataFile, start: int = 0) -> None:
        self._store, self._file, self._start = store, file, start
        self.name = f"{folder}/{file.name.path}"

    @property
    def first(self) -> int:
        """The offset of the first record of the file."""
        return self._file.name.first

    def batches(self) -> Iterator[Batch]:
        """The records in order."""
        for batch in self.columns(COLUMNS):
            offsets = batch.column(OFFSET).to_pylist()
            begin = bisect_left(offsets, self._start)
            if begin < len(offsets):
                appended = batch.column(APPENDED).cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64()).to_pylist()
                values = batch.column(RECORD).cast(pa.binary()).to_pylist()
                yield [
                    StoredRecord(*one) for one in zip(offsets[begin:], appended[begin:], values[begin:], strict=True)
                ]

    def columns(self, names: Sequence[str] | None = None) -> Iterator[Any]:
        """Record batches of these columns, or all, from the row group on that has the offset `start`."""
        last = -1
        with self.opened() as parquet:
            for number in range(parquet.metadata.num_row_groups):
                group = parquet.metadata.row_group(number)
                if _largest_offset(group) < self._start:
                    continue
                for batch in parquet.iter_batches(_rows_at_once(group), row_groups=[number], columns=names):
                    offsets = batch.column(OFFSET).to_pylist()
                    self._check_order(last, offsets)
                    last = offsets[-1]
                    yield batch

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """The file as pyarrow's `ParquetFile`, whose checksums are verified as it is read."""
        with self._opened_raw() as raw:
            try:
                parquet = pq.ParquetFile(raw, pre_buffer=True, page_checksum_verification=True)
                rows = parquet.metadata.num_rows
                if rows != self._file.rows:
                    raise self._corrupt(f"it has {rows:,} rows, and the table's log says {self._file.rows:,}")
                yield parquet
            except MemoryError:  # pyarrow's is one, and no damage
                raise
            except (pa.ArrowException, OSError, KeyError) as e:  # those of the store are ArchiveUnavailable by now
                raise self._corrupt(str(e)) from e

    @contextmanager
    def _opened_raw(self) -> Iterator[_Readable]:
        try:
            raw = self._store.open(self.name)
        except FileNotFoundError as e:
            raise self._corrupt("it is missing") from e
        except Exception as e:
            raise self._unavailable(e) from e
        with raw:
            if raw.size != self._file.size:
                raise self._corrupt(f"it has {raw.size:,} bytes, and the table's log says {self._file.size:,}")
            yield _Readable(raw, self._unavailable)

    def _check_order(self, last: int, offsets: Sequence[int]) -> None:
        name = self._file.name
        ascending = all(a < b for a, b in zip((last, *offsets), offsets, strict=False))
        if not (ascending and name.first <= offsets[0] and offsets[-1] <= name.last):
            raise self._corrupt("its offsets are not in order, or not those of its name")

    def _corrupt(self, reason: str) -> ArchiveCorrupt:
        return ArchiveCorrupt(f"{self.name} in the archive at {self._store.url} cannot be read: {reason}")

    def _unavailable(self, error: Exception) -> ArchiveUnavailable:
        return self._store.unavailable("read", self.name, error)


class _Readable:
    """A file as pyarrow reads it, from which failures of the store come out as ours: pyarrow's own mean damage."""

    closed = False

    def __init__(self, raw: Any, unavailable: Callable[[Exception], ArchiveUnavailable]) -> None:
        self._raw, self._unavailable = raw, unavailable

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        try:
            return bytes(self._raw.read(size))
        except Exception as e:  # each file system has its own errors: botocore's, aiohttp's, Google's, OSError
            raise self._unavailable(e) from e

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        return int(self._raw.seek(offset, whence))

    def tell(self) -> int:
        """The place."""
        return int(self._raw.tell())

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is not."""
        return False

    def close(self) -> None:
        """Who opened the file closes it."""
        self.closed = True


def _rows_at_once(group: Any) -> int:
    return max(1, min(BATCH_ROWS, int(BATCH_BYTES * group.num_rows // max(1, group.total_byte_size))))


def _largest_offset(group: Any) -> int:
    """The largest offset in a row group by its statistics; no limit where it has none."""
    columns = (group.column(number) for number in range(group.num_columns))
    found = next((c.statistics for c in columns if c.path_in_schema == OFFSET), None)
    return NO_LIMIT if found is None or not found.has_min_max else int(found.max)
