"""Reads rows from files, folders of files, BigQuery and archives, some thousand at a time."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import IO, Any, NamedTuple, Protocol, cast

from everloop.extras import require_data
from everloop.replay.rows import FileUnusable

BATCH_ROWS = 5_000
BIGQUERY = "bigquery://"
KINDS = (".parquet", ".csv", ".csv.gz", ".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz")
_QUERY = re.compile(r"\s*(select|with)\s", re.IGNORECASE)


class SourceRow(NamedTuple):
    """A row by its columns; `place` orders rows of one id, of which the last counts (archives only)."""

    values: Mapping[str, Any]
    place: int = 0


class Source(Protocol):
    """What history is read from. Methods block; they raise FileUnusable and WarehouseFailed."""

    columns: tuple[str, ...]
    total: int | None

    def rows(self) -> Iterator[SourceRow]:
        """All rows."""


class Files:
    """Files of one kind, in the order of their names: on a disk, or on any file system that fsspec knows."""

    def __init__(self, url: str) -> None:
        require_data("everloop backfill", "fsspec")
        from everloop_shared.file_systems import open_file_system, os_errors

        self.url, self._errors = url, os_errors
        with self._failures():
            self._fs, root = open_file_system(url)
            self._paths = self._find(root)
        kinds = {_kind(path) for path in self._paths}
        if not self._paths or len(kinds) > 1:
            found = "files of several kinds" if kinds else "no file"
            raise FileUnusable(f"{url} holds {found}; name a file or folder of {', '.join(KINDS)}")
        [self._kind] = kinds
        self.total: int | None = None
        with self._failures():
            self.columns = self._columns()

    def rows(self) -> Iterator[SourceRow]:
        """The rows of all files."""
        for path in self._paths:
            with self._failures(path), self._open(path) as file:
                yield from map(SourceRow, self._read(file))

    def _find(self, root: str) -> list[str]:
        if not self._fs.isdir(root):
            self._fs.info(root)
            if _kind(root) is None:
                raise FileUnusable(f"{self.url} has none of the endings {', '.join(KINDS)}")
            return [root]
        found = self._fs.find(root)
        return sorted(p for p in found if _kind(p) and not p.rpartition("/")[2].startswith((".", "_")))

    def _columns(self) -> tuple[str, ...]:
        if self._kind == ".parquet":
            import pyarrow.parquet as pq  # type: ignore[import-untyped]

            self.total = 0
            for path in self._paths:
                with self._fs.open(path, "rb") as file, closing(pq.ParquetFile(file)) as parquet:
                    self.total += parquet.metadata.num_rows
                    names = tuple(parquet.schema_arrow.names)
            return names
        with self._open(self._paths[0]) as file, closing(self._read(file)) as rows:
            first = next(rows, {})
        return tuple(first)

    def _read(self, file: IO[bytes]) -> Generator[dict[str, Any], None, None]:
        if self._kind == ".parquet":
            return _parquet_rows(file)
        return _csv_rows(file) if self._kind == ".csv" else _json_rows(file)

    @contextmanager
    def _open(self, path: str) -> Iterator[IO[bytes]]:
        with self._fs.open(path, "rb") as file:
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if path.endswith(".gz") else file

    @contextmanager
    def _failures(self, path: str = "") -> Iterator[None]:
        try:
            with self._errors():
                yield
        except FileUnusable:
            raise
        except (OSError, EOFError, ValueError, csv.Error) as e:  # ValueError: of Arrow, JSON, UTF-8
            reason = getattr(e, "strerror", None) or str(e) or repr(e)
            raise FileUnusable(f"{path or self.url} cannot be read: {reason}") from e


class BigQueryRows:
    """A table of BigQuery, or the result of a query."""

    def __init__(self, source: str) -> None:
        from everloop.warehouse.connection import connect
        from everloop.warehouse.errors import WarehouseFailed, failures

        self._failures = failures
        table = "" if is_query(source) else source.removeprefix(BIGQUERY)
        if table and not re.fullmatch(r"[\w-]+(\.[\w-]+){2}", table):
            raise WarehouseFailed(f"{source!r:.200} names no table; write {BIGQUERY}PROJECT.DATASET.TABLE, or a query")
        client = connect(table.partition(".")[0])
        with failures(f"reading {table or 'the result of the query'}"):
            text = f"SELECT * FROM `{table}`" if table else source
            self._result = client.query(text).result(page_size=BATCH_ROWS)
        self.columns = tuple(field.name for field in self._result.schema)
        self.total = self._result.total_rows

    def rows(self) -> Iterator[SourceRow]:
        """The rows, a page at a time."""
        with self._failures("reading rows"):
            for row in self._result:
                yield SourceRow(dict(row.items()))


def is_query(source: str) -> bool:
    """Whether a source is a query for BigQuery."""
    return _QUERY.match(source) is not None


def _kind(path: str) -> str | None:
    for kind in KINDS:
        if path.lower().endswith(kind):
            plain = kind.removesuffix(".gz")
            return ".ndjson" if plain == ".jsonl" else plain
    return None


def _parquet_rows(file: IO[bytes]) -> Generator[dict[str, Any], None, None]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS):
        yield from batch.to_pylist()


def _csv_rows(file: IO[bytes]) -> Generator[dict[str, Any], None, None]:
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)  # else an unclosed quote swallows the rest of the file
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise FileUnusable("a column is there twice")
        for cells in filter(None, reader):
            if len(cells) != len(header):
                raise FileUnusable(f"line {reader.line_num} has {len(cells)} values, the header has {len(header)}")
            yield dict(zip(header, cells, strict=True))


def _json_rows(file: IO[bytes]) -> Generator[dict[str, Any], None, None]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise FileUnusable(f"line {number} is no JSON object")
        yield row
