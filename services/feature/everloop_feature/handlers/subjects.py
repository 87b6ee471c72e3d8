"""Reads all that the topics have about one person, opened where its key is still there."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from everloop_feature.domain.subject_records import SOURCES, Source, Subject, describe_record
from everloop_feature.errors import ExportsBusy
from everloop_feature.ports import SealedValues
from everloop_schemas.catalogue import CLASSES
from everloop_schemas.envelope import DataEvent
from everloop_shared.errors import ServiceError
from everloop_shared.messaging.routes import Record, RecordReader
from everloop_shared.personal.records import comment_holder, put_back

BATCH_RECORDS = 500
PROGRESS_EVERY = 20
"""Batches between two lines that say how far it is."""
EXPORTS_AT_ONCE = 2
LONGEST_S = 1_800.0

Range = tuple[Source, int, int, int]
"""A source with one of its partitions, and the offsets from which and up to which it is read."""


@dataclass
class SubjectExport:
    """Reads the log in pieces, so that memory is bounded whatever it holds; the records of now are its end."""

    reader: RecordReader
    values: SealedValues
    partitions: int
    longest_s: float = LONGEST_S
    _running: int = 0

    async def lines(self, loop: str, entity: str, sources: Sequence[Source] = SOURCES) -> AsyncIterator[bytes]:
        """JSON lines: a record each, how far it is, and as the last one whether it is complete.

        Raises ExportsBusy where as many run as may. What fails later is said in the last line.
        """
        if self._running >= EXPORTS_AT_ONCE:
            raise ExportsBusy(f"{EXPORTS_AT_ONCE} exports are running; try again later")
        self._running += 1
        subject, reason, counted = Subject(loop, entity), None, [0, 0]
        try:
            async for line in self._read(subject, sources, counted):
                yield line
        except ServiceError as e:
            reason = e.detail
        except TimeoutError:
            reason = f"it took longer than {self.longest_s:,.0f} s"
        finally:
            self._running -= 1
        yield _line(kind="end", complete=reason is None, reason=reason, read=counted[0], records=counted[1])

    async def _read(self, subject: Subject, sources: Sequence[Source], counted: list[int]) -> AsyncIterator[bytes]:
        ends_at, batches = time.monotonic() + self.longest_s, 0
        ranges = [r for source in sources for r in await self._ranges(subject, source)]
        total = sum(stop - start for _, _, start, stop in ranges)
        yield _line(kind="progress", read=0, of=total)
        for source, partition, start, stop in ranges:
            for first in range(start, stop, BATCH_RECORDS):
                if time.monotonic() > ends_at:
                    raise TimeoutError
                last = min(stop, first + BATCH_RECORDS)
                for record in await self.reader.read_records(source.topic, partition, first, last):
                    if subject.concerns(source, record):
                        counted[1] += 1
                        yield await self._describe(subject, source, record)
                counted[0] += last - first
                batches += 1
                if batches % PROGRESS_EVERY == 0:
                    yield _line(kind="progress", read=counted[0], of=total)
                await asyncio.sleep(0)

    async def _ranges(self, subject: Subject, source: Source) -> list[Range]:
        if source.by == "entity":
            chosen = [self.reader.partition_for(source.topic, subject.key)]
        elif source.by == "loop":
            chosen = [self.reader.partition_for(source.topic, subject.loop.encode())]
        else:
            chosen = list(range(self.partitions))
        found = [
            (p, await self.reader.begin_offset(source.topic, p), await self.reader.end_offset(source.topic, p))
            for p in chosen
        ]
        return [(source, p, start, stop) for p, start, stop in found if start < stop]

    async def _describe(self, subject: Subject, source: Source, record: Record) -> bytes:
        body = json.loads(record.value or b"{}")
        token = body.get("data", {}).get("personal")
        if not isinstance(token, str):
            return describe_record(source, record, body, None)
        del body["data"]["personal"]
        opened = await self._open(subject, body, token)
        if opened is None:
            return describe_record(source, record, body, "erased")
        return describe_record(source, record, _with_values(body, record, opened), "opened")

    async def _open(self, subject: Subject, body: dict[str, Any], token: str) -> dict[str, Any] | None:
        is_comment = body.get("type") == "ingest.label_received.v1"
        holder = comment_holder(str(body.get("subject"))) if is_comment else subject.entity
        return await self.values.unseal(subject.loop, holder, token)


def _with_values(body: dict[str, Any], record: Record, opened: dict[str, Any]) -> dict[str, Any]:
    """The record as it was before it was sealed; values of one that cannot be put back stand beside it."""
    cls = CLASSES.get(str(body.get("type")))
    if cls is None or not issubclass(cls, DataEvent):
        return body | {"opened": opened}
    whole: dict[str, Any] = json.loads(put_back(cls.decode(record.value or b""), opened).encode())
    whole["data"].pop("personal", None)
    return whole


def _line(**said: Any) -> bytes:
    return json.dumps(said).encode() + b"\n"
