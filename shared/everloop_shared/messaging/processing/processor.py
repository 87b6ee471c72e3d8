"""The fixed order around a handler: decode, handle, effects, then the offset; and what failures become."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from everloop_schemas.envelope import Event
from everloop_shared import metrics
from everloop_shared.errors import Disposition, InputRejected, ServiceError
from everloop_shared.messaging.processing.crash_ledger import CrashLedger
from everloop_shared.messaging.processing.failures import FailurePolicy, disposition_of
from everloop_shared.messaging.processing.record_spans import handling_of
from everloop_shared.messaging.processing.records import (
    DecodedBatches,
    DecodedRecord,
    decode_record,
    split_in_half,
)
from everloop_shared.messaging.routes import Handler, Partition, Publisher, Record, Routes, UnitOfWork
from everloop_shared.messaging.time_slices import SLICE_S, TimeSlices

if TYPE_CHECKING:
    from everloop_shared.signing.trust import TrustStore

log = logging.getLogger(__name__)
RELAY_BACKOFF_S = 1.0
"""How long partitions pause when the outbox cannot be relayed."""


@dataclass
class Progress:
    """The result of a batch.

    The next offset to read per partition, which partitions back off and for how many seconds, and the failure
    that must end the process once these offsets are committed.
    """

    next_offsets: dict[Partition, int] = field(default_factory=dict)
    backoff_s: dict[Partition, float] = field(default_factory=dict)
    failure: Exception | None = None

    def add(self, other: Progress) -> None:
        """Add the result of another part of the batch."""
        self.next_offsets |= other.next_offsets
        self.backoff_s |= other.backoff_s
        self.failure = self.failure or other.failure


Batches = Mapping[Partition, Sequence[Record]]
Results = list[tuple[Record, list[Event]]]


class _BackOff(Exception):
    """Ends the batch of a partition at a record that is retried after a backoff."""


class Processor:
    """Runs batches of records through their handlers for one service, whatever the engine.

    Without a unit of work: handle the records, await the broker's acks of all events that the handlers returned, then
    advance the offset. With one: handle the whole batch in one transaction; where that fails, roll back and handle
    smaller parts, down to the record that causes the failure. What a handler keeps in memory is not rolled back: it
    must read its state through the unit of work, or be idempotent by event id. An error that a record can cause
    concerns that record only (decision 0101). A record that `trust` does not admit never reaches a handler.
    """

    def __init__(
        self,
        service: str,
        routes: Routes,
        publisher: Publisher,
        unit_of_work: UnitOfWork | None = None,
        ledger: CrashLedger | None = None,
        trust: TrustStore | None = None,
    ) -> None:
        self.service = service
        self._trust = trust
        self._handlers: dict[str, Handler] = {r.name: r.handle for r in routes}
        self._handled = {topic: metrics.HANDLED.labels(service, topic) for topic in self._handlers}
        self._consumed = {topic: metrics.CONSUMED.labels(service, topic) for topic in self._handlers}
        self._publisher = publisher
        self._unit = unit_of_work
        self._side_by_side = 1
        self._call = handling_of(service, is_broadcast=any(route.broadcast for route in routes))
        self._failures = FailurePolicy(service, ledger or CrashLedger())

    async def process(self, batches: Batches) -> Progress:
        """Handle a batch of records in order per partition; failures are in the progress, never raised."""
        if self._unit is not None:
            return await self._process_in_transactions(self._unit, batches)
        progress, self._side_by_side = Progress(), len(batches)
        if len(batches) == 1:
            results = [await self._handle_partition(p, r, progress) for p, r in batches.items()]
        else:
            results = await asyncio.gather(*(self._handle_partition(p, r, progress) for p, r in batches.items()))
        try:
            await self._publisher.publish([event for result in results for _, events in result for event in events])
            for partition, result in zip(batches, results, strict=True):
                if result:
                    progress.next_offsets[partition] = result[-1][0].at.offset + 1
        except Exception as e:
            for partition, result in zip(batches, results, strict=True):
                progress.add(await self._publish_one_by_one(partition, result, e))
        return progress

    async def _handle_partition(self, partition: Partition, records: Sequence[Record], progress: Progress) -> Results:
        """What the records cause, up to the first that has to be tried again or that ends the process."""
        self._consumed[partition[0]].inc(len(records))
        results, slices = Results(), TimeSlices(SLICE_S / max(1, self._side_by_side))
        try:
            for record in records:
                results.append((record, await self._handle_or_give_up(record)))
                await slices.pause()
        except _BackOff:
            progress.backoff_s[partition] = self._failures.backoff_s(partition)
        except Exception as e:
            progress.failure = progress.failure or e
        return results

    async def _publish_one_by_one(self, partition: Partition, results: Results, error: Exception) -> Progress:
        """Publish record by record after a batch failed: one whose events are rejected becomes a dead letter."""
        progress = Progress()
        if disposition_of(error) is Disposition.CRASH:
            progress.failure = error
            return progress
        try:
            for record, events in results:
                if disposition_of(error) is Disposition.RETRY:
                    self._back_off(record, error)
                try:
                    await self._publisher.publish(events)
                except InputRejected as rejected:
                    await self._publisher.publish(
                        [self._failures.make_dead_letter(record.at, record.key, record.value, rejected)]
                    )
                progress.next_offsets[partition] = record.at.offset + 1
        except Exception as e:
            if not isinstance(e, _BackOff) and disposition_of(e) is not Disposition.RETRY:
                progress.failure = e
            progress.backoff_s[partition] = self._failures.backoff_s(partition)
        return progress

    def _back_off(self, record: Record, error: Exception) -> None:
        self._failures.count_retry(record.at)
        log.info("publishing backs off", extra={"topic": record.at.topic, "reason": str(error)})
        raise _BackOff from error

    async def _process_in_transactions(self, unit: UnitOfWork, batches: Batches) -> Progress:
        for (topic, _), records in batches.items():
            self._consumed[topic].inc(len(records))
        decoded = {partition: [self._decode(r) for r in records] for partition, records in batches.items()}
        progress = await self._process_parts(unit, decoded)
        try:
            await unit.relay(self._publisher)
        except ServiceError as e:
            if e.disposition is not Disposition.RETRY:
                progress.failure = progress.failure or e
            for partition in batches:  # its events are in the outbox: wait for the broker before adding more
                progress.backoff_s.setdefault(partition, RELAY_BACKOFF_S)
        await unit.settle()
        return progress

    async def _process_parts(self, unit: UnitOfWork, batches: DecodedBatches) -> Progress:
        """One transaction for all; if it fails, with a savepoint per record; if that fails, each half by itself."""
        single, away = sum(map(len, batches.values())) == 1, False
        for attempt in (self._handle_together, self._handle_with_savepoints):
            if away or (single and attempt == self._handle_with_savepoints):
                break
            try:
                return await attempt(unit, batches)
            except Exception as e:
                log.info("batch rolled back", extra={"reason": repr(e)[:500]})
                away = isinstance(e, ServiceError) and e.disposition is Disposition.RETRY and e.give_up_after is None
        progress = Progress()
        if single or away:
            for partition, records in batches.items():
                progress.add(await self._handle_each_alone(unit, partition, records))
            return progress
        for half in split_in_half(batches):
            rest = {p: records for p, records in half.items() if p not in progress.backoff_s}
            if rest and progress.failure is None:
                progress.add(await self._process_parts(unit, rest))
        return progress

    async def _handle_together(self, unit: UnitOfWork, batches: DecodedBatches) -> Progress:
        progress, events = Progress(), list[Event]()
        async with unit:
            stored = await unit.offsets()
            for partition, records in batches.items():
                for decoded in records:
                    if decoded.record.at.offset >= stored.get(partition, 0):
                        events += await self._handle(decoded)
                progress.next_offsets[partition] = max(records[-1].record.at.offset + 1, stored.get(partition, 0))
            await unit.record(events, progress.next_offsets)
        return progress

    async def _handle_with_savepoints(self, unit: UnitOfWork, batches: DecodedBatches) -> Progress:
        """In one transaction with a savepoint per record: only the record whose handler raises is undone."""
        progress, events = Progress(), list[Event]()
        async with unit:
            stored = await unit.offsets()
            for partition, records in batches.items():
                try:
                    for decoded in records:
                        if decoded.record.at.offset >= stored.get(partition, 0):
                            events += await self._handle_in_savepoint(unit, decoded)
                        progress.next_offsets[partition] = max(decoded.record.at.offset + 1, stored.get(partition, 0))
                except _BackOff:
                    progress.backoff_s[partition] = self._failures.backoff_s(partition)
            await unit.record(events, progress.next_offsets)
        return progress

    async def _handle_in_savepoint(self, unit: UnitOfWork, decoded: DecodedRecord) -> list[Event]:
        try:
            async with unit.savepoint():
                return await self._handle(decoded)
        except Exception as e:
            if disposition_of(e) is Disposition.CRASH:
                raise
            return [self._give_up(decoded, e)]

    async def _handle_each_alone(
        self, unit: UnitOfWork, partition: Partition, records: Sequence[DecodedRecord]
    ) -> Progress:
        progress = Progress()
        try:
            for decoded in records:
                progress.next_offsets[partition] = await self._handle_alone(unit, partition, decoded)
        except _BackOff:
            progress.backoff_s[partition] = self._failures.backoff_s(partition)
        except Exception as e:
            progress.failure = e
        return progress

    async def _handle_alone(self, unit: UnitOfWork, partition: Partition, decoded: DecodedRecord) -> int:
        offset, in_handler = decoded.record.at.offset, False
        try:
            async with unit:
                stored = (await unit.offsets()).get(partition, 0)
                if offset < stored:
                    return stored
                in_handler = True
                events = await self._handle(decoded)
                await unit.record(events, {partition: offset + 1})
                in_handler = False
        except Exception as e:
            dead_letter = self._give_up(decoded, e, in_handler)
            try:
                async with unit:
                    await unit.record([dead_letter], {partition: offset + 1})
            except ServiceError as failed:
                if failed.disposition is not Disposition.RETRY:
                    raise
                self._back_off(decoded.record, failed)
        return offset + 1

    async def _handle(self, decoded: DecodedRecord) -> list[Event]:
        event, at = decoded.event, decoded.record.at
        if event is None:
            return [decoded.dead_letter] if decoded.dead_letter else []
        started = time.perf_counter()
        caused = await self._call(self._handlers[at.topic], event, decoded.record)
        for outgoing in caused:
            outgoing.encode()  # an event that cannot be encoded fails here, as an error of this record
        self._handled[at.topic].observe(time.perf_counter() - started)
        self._failures.record_success(at, event.loop)
        return caused

    async def _handle_or_give_up(self, record: Record) -> list[Event]:
        decoded = self._decode(record)
        try:
            return await self._handle(decoded)
        except Exception as e:
            return [self._give_up(decoded, e)]

    def _decode(self, record: Record) -> DecodedRecord:
        decoded = decode_record(record, self._trust)
        return replace(decoded, dead_letter=self._give_up(decoded, decoded.rejection)) if decoded.rejection else decoded

    def _give_up(self, decoded: DecodedRecord, error: Exception, in_handlerler: bool = True) -> Event:
        """The dead letter of a record whose handler raised; raises _BackOff to retry it, or the error to crash."""
        record = decoded.record
        if self._failures.may_retry(record.at, error, decoded.loop):
            raise _BackOff from error
        return self._failures.make_dead_letter(record.at, record.key, record.value, error, in_handlerler)
