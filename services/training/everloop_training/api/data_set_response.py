"""Sends a data set as lines of JSON, as a stream of Arrow, or its description alone."""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from everloop_learning.data_set import Row
from everloop_learning.data_set_columns import DescribedDataSet
from everloop_schemas.training import DataSet
from everloop_shared.errors import FieldError, ServiceError
from everloop_shared.http.whole_answers import LEVEL, accepts_gzip, add_vary
from everloop_shared.tasks import cancel_all
from everloop_training.domain.data_set_selection import Selection
from everloop_training.errors import DataSetRejected
from everloop_training.ports import DataSetStore, StoredDataSet

log = logging.getLogger(__name__)
NDJSON, ARROW, JSON = "application/x-ndjson", "application/vnd.apache.arrow.stream", "application/json"
CHUNK_BYTES = 262_144
Chunks = Callable[[StoredDataSet], Iterator[bytes]]


class DataSetResponse(Response):
    """Opens the data set when it is sent, so that it is closed however that ends: a client that left, too."""

    def __init__(self, store: DataSetStore, loop: str, selection: Selection, accept: str) -> None:
        super().__init__()
        self._store, self._loop, self._selection = store, loop, selection
        self.media_type, self._chunks = _form(accept)
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the data set and send it, until the client has it or has left."""
        accepted = next((value for name, value in scope["headers"] if name == b"accept-encoding"), b"")
        sending = asyncio.ensure_future(self._send(send, compressed=accepts_gzip(accepted)))
        leaving = asyncio.ensure_future(_wait_until_client_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except ServiceError as e:
            if not self._started:
                raise
            log.warning("data set not sent to its end", extra={"loop": self._loop, "reason": e.detail})
        finally:
            await cancel_all([sending, leaving])

    async def _send(self, send: Send, *, compressed: bool) -> None:
        async with self._store.open(self._loop, self._selection) as stored:
            headers = _headers(stored.data_set, cast(str, self.media_type))
            add_vary(headers, b"accept")
            if compressed:
                headers.append((b"content-encoding", b"gzip"))
            add_vary(headers, b"accept-encoding")
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            self._started = True
            chunks = self._chunks(stored)
            chunks = _compressed(chunks) if compressed else chunks
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def describe(data_set: DataSet) -> dict[str, Any]:
    """What is said of a data set."""
    return {"name": data_set.name, **data_set.model_dump()}


def _form(accept: str) -> tuple[str, Chunks]:
    """The content type and the form that the client asks for, lines of JSON where it names none."""
    wanted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    if ARROW in wanted:
        if find_spec("pyarrow") is None:
            fix = f"Arrow needs pyarrow where training runs (everloop[data]); ask for {NDJSON}"
            raise DataSetRejected("the data set cannot be sent as Arrow", [FieldError("accept", fix)])
        return ARROW, _arrow
    if JSON in wanted and NDJSON not in wanted:
        return JSON, _description
    return NDJSON, _lines


def _headers(data_set: DescribedDataSet, media_type: str) -> list[tuple[bytes, bytes]]:
    about = {
        "content-type": media_type,
        "everloop-data-set": data_set.name,
        "everloop-digest": f"sha256={data_set.digest}",
        "everloop-rows": str(data_set.rows),
    }
    return [(name.encode(), value.encode()) for name, value in about.items()]


async def _wait_until_client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _description(stored: StoredDataSet) -> Iterator[bytes]:
    yield json.dumps(describe(stored.data_set)).encode()


def _lines(stored: StoredDataSet) -> Iterator[bytes]:
    """A line that describes the data set, then its rows: `tail -n +2 | sha256sum` gives the digest."""
    yield json.dumps({"data_set": describe(stored.data_set)}).encode() + b"\n"
    while chunk := stored.file.read(CHUNK_BYTES):
        yield chunk


def _arrow(stored: StoredDataSet) -> Iterator[bytes]:
    import pyarrow as pa  # type: ignore[import-untyped]

    from everloop_learning.data_set_table import arrow_batches, arrow_schema

    sink = _Gathered()
    with pa.ipc.new_stream(sink, arrow_schema(stored.data_set)) as writer:
        for batch in arrow_batches(stored.data_set, map(Row.decode, stored.file)):
            writer.write_batch(batch)
            yield sink.take()
    yield sink.take()


class _Gathered:
    """A file to which Arrow writes, emptied after each batch."""

    closed = False

    def __init__(self) -> None:
        self._parts = bytearray()

    def write(self, data: Any) -> int:
        """Gather what is written."""
        self._parts += memoryview(data).cast("B")
        return len(data)

    def flush(self) -> None:
        """There is nothing to do."""

    def take(self) -> bytes:
        """What was written since the last call."""
        taken, self._parts = bytes(self._parts), bytearray()
        return taken


def _compressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    gzip = zlib.compressobj(LEVEL, wbits=16 + zlib.MAX_WBITS)
    for chunk in chunks:
        if compressed := gzip.compress(chunk):
            yield compressed
    yield gzip.flush()
