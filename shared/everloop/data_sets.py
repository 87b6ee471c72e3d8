"""A data set on this machine: rows as they were learned, as an Arrow table, a pandas frame or a file."""

from __future__ import annotations

import csv
import json
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from io import TextIOWrapper
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

import httpx

from everloop.errors import EverloopError, EverloopHTTPError
from everloop.extras import require_data
from everloop.wire import NAIVE, loop_path, query

if TYPE_CHECKING:
    from everloop_learning.data_set import Row
    from everloop_learning.data_set_columns import ColumnType, DescribedDataSet

NDJSON = "application/x-ndjson"
READ_TIMEOUT_S = 660.0
"""The service reads all rows before it sends the first, for 600 s at most by default."""
IN_MEMORY_BYTES = 64_000_000
CHUNK_BYTES = 262_144
Progress = Callable[[int, int], None]
"""Called with the number of rows that have arrived, and that of all of them."""
_NAME = re.compile(r"([^@#]+)@(\d+)\.\.(\d+)#(\d+)")


class DataSetDamaged(EverloopError):
    """The rows that arrived are not those of the digest.

    >>> from everloop import DataSetDamaged, EverloopError
    >>> issubclass(DataSetDamaged, EverloopError)
    True
    """


class DataSet:
    """What models learn of a part of a loop's log: an iterable of rows, which are read as often as you like.

    `name` is LOOP@START..END#REVISION and gives the same rows again; `digest` is the sha256 of the rows. `features` are
    the types of the features by name, `label` is the type of the label. It lacks `erased` outcomes, whose persons were
    erased.

    >>> from everloop import Everloop
    >>> with Everloop() as everloop:
    ...     rows = everloop.dataset("market", last=2)
    >>> rows.name, len(rows), [(row.prediction_id, row.features, row.label) for row in rows][0]
    ('market@1..2#3', 2, ('order-1', {'demand': None, 'price': 1.0}, False))
    """

    def __init__(self, about: DescribedDataSet, file: IO[bytes]) -> None:
        self._about, self._file, self._lock = about, file, threading.Lock()
        self._close = weakref.finalize(self, file.close)
        self.name, self.loop, self.revision = about.name, about.loop, about.revision
        self.start, self.end = about.start, about.end
        self.digest: str = about.digest or ""
        self.features: dict[str, ColumnType] = dict(about.features)
        self.label: ColumnType = about.label
        self.erased: int = about.erased

    def __len__(self) -> int:
        return self._about.rows or 0

    def __repr__(self) -> str:
        return f"<DataSet {self.name}, {len(self):,} rows>"

    def __iter__(self) -> Iterator[Row]:
        from everloop_learning.data_set import Row  # imports pydantic, which a client that only sends does without

        rest = b""
        for chunk in self._chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from map(Row.decode, lines)

    @property
    def columns(self) -> list[str]:
        """The columns of tables and files: offset, time, prediction_id, the features, and label.

        Where a feature has such a name already, ours is called `everloop_...`.
        """
        from everloop_learning.data_set_columns import column_names

        *before, label = column_names(self._about)
        return [*before, *self.features, label]

    def to_arrow(self) -> Any:
        """A pyarrow.Table. Raises an EverloopError that names the extra where pyarrow is not installed."""
        require_data("to_arrow", "pyarrow")
        import pyarrow as pa  # type: ignore[import-untyped]

        from everloop_learning.data_set_table import arrow_batches, arrow_schema

        return pa.Table.from_batches(arrow_batches(self._about, self), schema=arrow_schema(self._about))

    def to_pandas(self) -> Any:
        """A pandas.DataFrame. Raises an EverloopError that names the extra where pandas is not installed."""
        require_data("to_pandas", "pyarrow", "pandas")
        return self.to_arrow().to_pandas()

    def to_parquet(self, where: str | os.PathLike[str] | IO[bytes]) -> None:
        """Write a Parquet file, whose metadata has name and digest. A path holds the whole file, or none."""
        require_data("to_parquet", "pyarrow")
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        from everloop_learning.data_set_table import arrow_batches, arrow_schema

        with _written(where) as file, pq.ParquetWriter(file, arrow_schema(self._about)) as writer:
            for batch in arrow_batches(self._about, self):
                writer.write_batch(batch)

    def to_csv(self, where: str | os.PathLike[str] | IO[bytes]) -> None:
        """Write a CSV file with a header; missing values are empty."""
        with _written(where) as file:
            text = TextIOWrapper(file, "utf-8", newline="", write_through=True)
            table = csv.writer(text)
            table.writerow(self.columns)
            for row in self:
                values = [row.offset, row.time.isoformat(), row.prediction_id]
                table.writerow([*values, *(_cell(row.features.get(name)) for name in self.features), _cell(row.label)])
            text.detach()

    def to_ndjson(self, where: str | os.PathLike[str] | IO[bytes]) -> None:
        """Write the rows as lines of JSON: the sha256 of the file is the digest."""
        with _written(where) as file:
            for chunk in self._chunks():
                file.write(chunk)

    def _chunks(self) -> Iterator[bytes]:
        at = 0
        while True:
            with self._lock:  # several readers share the file, each with its own place
                self._file.seek(at)
                chunk = self._file.read(CHUNK_BYTES)
            if not chunk:
                return
            at += len(chunk)
            yield chunk


def request_path(
    loop: str,
    *,
    last: int | None = None,
    start: int | None = None,
    end: int | None = None,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
) -> str:
    """The address of a data set, which `loop` may name whole: LOOP@START..END#REVISION."""
    given: dict[str, Any] = {"last": last, "start": start, "end": end}
    given |= {"from": _time("since", since), "to": _time("until", until)}
    asked = {name: value for name, value in given.items() if value is not None}
    if named := _NAME.fullmatch(loop):
        if asked:
            why = "the name of a data set says its range; leave it out, or give the loop's name"
            raise EverloopHTTPError(422, "Not a data set", why, [(next(iter(asked)), why)])
        loop, asked = named[1], {"start": named[2], "end": named[3], "revision": named[4]}
    return loop_path(loop, "data-set") + query(**asked)


def receive(response: httpx.Response, on_progress: Progress | None, stop: threading.Event | None = None) -> DataSet:
    """The data set in an answer, compared with its digest; raises DataSetDamaged, or EverloopError after `stop`."""
    from everloop_learning.data_set_columns import DescribedDataSet

    file: IO[bytes] = SpooledTemporaryFile(IN_MEMORY_BYTES)
    try:
        first, digest, rows, about = b"", sha256(), 0, None
        for chunk in response.iter_bytes():
            if stop is not None and stop.is_set():
                raise EverloopError("the reading of the data set was cancelled")
            if about is None:
                head, found, chunk = (first + chunk).partition(b"\n")
                if not found:
                    first = head
                    continue
                about = DescribedDataSet.model_validate(json.loads(head)["data_set"])
            file.write(chunk)
            digest.update(chunk)
            rows += chunk.count(b"\n")
            if on_progress is not None:
                on_progress(rows, about.rows or 0)
        if about is None or (digest.hexdigest(), rows) != (about.digest, about.rows):
            name = about.name if about else "the data set"
            raise DataSetDamaged(f"the rows of {name} are not those of its digest; read it again")
    except BaseException:
        file.close()
        raise
    return DataSet(about, file)


def _time(name: str, time: str | datetime | None) -> str | None:
    if not isinstance(time, datetime):
        return time
    if time.tzinfo is None:
        raise EverloopHTTPError(422, "Not a data set", f"{name}: {NAIVE}", [(name, NAIVE)])
    return time.isoformat()


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


@contextmanager
def _written(where: str | os.PathLike[str] | IO[bytes]) -> Iterator[IO[bytes]]:
    """A file to write; a path has the whole of it in the end, or what it had before."""
    if not isinstance(where, str | os.PathLike):
        yield where
        return
    path = Path(where)
    part = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
