"""Turns polled records of one source into what is published: events, labels, or a dead letter with the reason."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime

from everloop_ingest.domain.open_letters import OpenLetter
from everloop_ingest.domain.sources.mapping import SourceMapping
from everloop_ingest.domain.sources.records import SourceRecordRejected
from everloop_ingest.domain.sources.status import SourceStatus
from everloop_ingest.metrics import SOURCE_PUBLISHED, SOURCE_RECORDS, SOURCE_REJECTED
from everloop_schemas.envelope import Event, derived_id
from everloop_schemas.ingest import EventReceived
from everloop_shared import metrics
from everloop_shared.errors import ServiceError, cut
from everloop_shared.messaging.processing.dead_letter import make_dead_letter
from everloop_shared.messaging.routes import Record
from everloop_shared.personal.failures import describe
from everloop_shared.spans.recorders import admitted, recorder_of

log = logging.getLogger(__name__)
MAX_KEPT_BYTES = 8_000_000
"""Of a record in its dead letter, which has to fit the topic; of a larger record only the place is kept."""
MAX_SEALED_BYTES = 4_000_000
"""The same where it is sealed, which takes base64 twice."""
REASON_CHARACTERS = 300


class RecordConverter:
    """Converts the records of one source by the mapping of the present revision, and counts what came of them."""

    def __init__(self, mapping: SourceMapping, status: SourceStatus) -> None:
        self.mapping = mapping
        self._status = status
        self._reported = (0, 0, 0, 0)

    def convert(self, record: Record, now: datetime) -> Sequence[Event | OpenLetter]:
        """What to publish for a record. Never raises: a record that cannot be read is a dead letter."""
        try:
            found = self.mapping.read(record, now)
        except Exception as e:  # whatever a record can cause concerns that record only (decision 0101)
            return [self.reject(record, e)]
        events = sum(isinstance(event, EventReceived) for event in found)
        self._status.count(events, len(found) - events)
        return [_admit(event) for event in found] if recorder_of("ingest") is not None else found

    def reject(self, record: Record, error: Exception) -> Event | OpenLetter:
        """The dead letter of a record. The same record of the same source gives the same one."""
        loop, source, hides = self._status.loop, self._status.source, self.mapping.hides_values
        detail = self._describe(error)
        self._status.count_rejection(cut(detail, REASON_CHARACTERS))
        metrics.DEAD_LETTERS.labels("ingest", record.at.topic, type(error).__name__).inc()
        fits = _size(record) <= (MAX_SEALED_BYTES if hides else MAX_KEPT_BYTES)
        kept = (record.key, record.value) if fits else (None, None)
        named = SourceRecordRejected([])
        named.detail = f"source {source} of loop {loop}: {detail}"
        letter = make_dead_letter("ingest", record.at, *kept, named if isinstance(error, ServiceError) else error)
        at = (record.at.topic, record.at.partition, record.at.offset)
        id = derived_id(loop, letter.type, source, *at)
        headers = tuple((name, b64encode(value or b"").decode()) for name, value in record.headers) if fits else ()
        origin = {"reader": source, "headers": headers or None}
        broken = error.unexpected if isinstance(error, SourceRecordRejected) else ()
        unexpected = {"unexpected": dict.fromkeys(broken, 1) or None}
        data = letter.data.model_copy(update={"reason": cut(named.detail, 2_000), **origin, **unexpected})
        letter = letter.copy_with(id=id, loop=loop, causationid=None, data=data)
        entity = error.entity if isinstance(error, SourceRecordRejected) else None
        return OpenLetter(letter, entity or "") if hides else letter

    def _describe(self, error: Exception) -> str:
        """Why a record is rejected; what is unexpected is in the log too. Quotes no personal values."""
        if isinstance(error, ServiceError):
            return error.detail
        hides, names = self.mapping.hides_values, {"loop": self._status.loop, "source": self._status.source}
        reason = describe(error) if hides else repr(error)
        shown = {"extra": names | {"reason": reason}} if hides else {"extra": names, "exc_info": error}
        log.warning("a record of a source cannot be read", **shown)
        return f"cannot be read: {reason}"

    def report(self) -> None:
        """Add what was counted since the last report to the metrics."""
        status, before = self._status, self._reported
        now = (status.records, status.rejected, status.events, status.labels)
        self._reported = now
        records, rejected, events, labels = (after - earlier for after, earlier in zip(now, before, strict=True))
        names = status.loop, status.source
        SOURCE_RECORDS.labels(*names).inc(records)
        SOURCE_REJECTED.labels(*names).inc(rejected)
        SOURCE_PUBLISHED.labels(*names, "event").inc(events)
        SOURCE_PUBLISHED.labels(*names, "label").inc(labels)
        metrics.CONSUMED.labels("ingest", status.topic).inc(records)


def _admit(event: Event) -> Event:
    """The event, recorded as its producer's flag says, unless too many ask for that."""
    admitted_context = admitted("ingest", event.traceparent)
    return event if admitted_context == event.traceparent else event.copy_with(traceparent=admitted_context)


def _size(record: Record) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers
