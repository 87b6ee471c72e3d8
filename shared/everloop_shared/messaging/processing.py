"""The fixed order around a handler: decode, handle, effects, then the offset; and what failures become."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from everloop_schemas.catalogue import decode
from everloop_schemas.envelope import Event
from everloop_shared import metrics
from everloop_shared.errors import Disposition, EverloopError, Rejected
from everloop_shared.messaging.crash_ledger import CrashLedger
from everloop_shared.messaging.fate import Fates, disposition
from everloop_shared.messaging.routes import Handler, Position, Publisher, Route, UnitOfWork
from everloop_shared.tracing import traced

log = logging.getLogger(__name__)
Partition = tuple[str, int]


@dataclass(frozen=True)
class Record:
    """A record as it lies on the log."""

    at: Position
    key: bytes | None
    value: bytes | None


def events_of(records: Sequence[Record]) -> list[tuple[Position, Event]]:
    """The events in some records; tombstones and what does not decode are left out."""
    found = []
    for record in records:
        if record.value is None:
            continue
        try:
            found.append((record.at, decode(record.at.topic, record.value)))
        except ValueError:
            log.info("history holds what is no event", extra={"topic": record.at.topic, "offset": record.at.offset})
    return found


@dataclass
class Progress:
    """What a batch came to.

    The next offset to read per partition, which partitions back off and for how many seconds, and the failure
    that must end the process once these offsets are committed.
    """

    next_offsets: dict[Partition, int] = field(default_factory=dict)
    backoff_s: dict[Partition, float] = field(default_factory=dict)
    failure: Exception | None = None

    def add(self, other: Progress) -> None:
        """Take in what another part of the batch came to."""
        self.next_offsets |= other.next_offsets
        self.backoff_s |= other.backoff_s
        self.failure = self.failure or other.failure


class _Stopped(Exception):
    """The record at hand ends its partition's batch: it is tried again after a back-off."""


class Processor:
    """Runs batches of records through their handlers for one service, whatever the engine.

    Without a unit of work: handle, await the broker's acks of everything returned, then the offset. With one:
    the whole batch in one transaction; when a record spoils it, roll back and go one by one. What a handler keeps
    in memory is not rolled back: it must read its state through the unit of work, or be idempotent by event id.
    """

    def __init__(
        self,
        service: str,
        routes: Sequence[Route],
        publisher: Publisher,
        unit_of_work: UnitOfWork | None = None,
        ledger: CrashLedger | None = None,
    ) -> None:
        self.service = service
        self._handlers: dict[str, Handler] = {r.topic.name: r.handle for r in routes}
        self._handled = {topic: metrics.HANDLED.labels(service, topic) for topic in self._handlers}
        self._consumed = {topic: metrics.CONSUMED.labels(service, topic) for topic in self._handlers}
        self._publisher = publisher
        self._unit = unit_of_work
        self._fates = Fates(service, ledger or CrashLedger())

    async def process(self, batches: Mapping[Partition, Sequence[Record]]) -> Progress:
        """Handle a batch of records in order per partition; failures are in the progress, never raised."""
        if self._unit is not None:
            return await self._in_transactions(self._unit, batches)
        whole = Progress()
        for part in await asyncio.gather(*(self._plain(p, r) for p, r in batches.items())):
            whole.add(part)
        return whole

    async def _plain(self, partition: Partition, records: Sequence[Record]) -> Progress:
        progress, results = Progress(), list[tuple[Record, list[Event]]]()
        try:
            for record in records:
                results.append((record, await self._handle_or_park(record)))
        except _Stopped:
            progress.backoff_s[partition] = self._fates.backoff_s(partition)
        except Exception as e:
            progress.failure = e
        try:
            await self._publisher.publish([event for _, events in results for event in events])
            if results:
                progress.next_offsets[partition] = results[-1][0].at.offset + 1
        except Exception as e:
            progress.add(await self._one_by_one(partition, results, e))
        return progress

    async def _one_by_one(
        self, partition: Partition, results: Sequence[tuple[Record, list[Event]]], error: Exception
    ) -> Progress:
        """The batch's events were not taken together: park the records whose events never will be."""
        progress = Progress()
        if disposition(error) is Disposition.CRASH:
            progress.failure = error
            return progress
        try:
            for record, events in results:
                if disposition(error) is Disposition.RETRY:
                    self._give_way(record, error)
                try:
                    await self._publisher.publish(events)
                except Rejected as rejected:
                    await self._publisher.publish([self._fates.park(record.at, record.key, record.value, rejected)])
                progress.next_offsets[partition] = record.at.offset + 1
        except Exception as e:
            stopped = isinstance(e, _Stopped) or disposition(e) is Disposition.RETRY
            if not stopped:
                progress.failure = e
            progress.backoff_s[partition] = self._fates.backoff_s(partition)
        return progress

    def _give_way(self, record: Record, error: Exception) -> None:
        self._fates.retried(record.at)
        log.info("publishing backs off", extra={"topic": record.at.topic, "reason": str(error)})
        raise _Stopped from error

    async def _in_transactions(self, unit: UnitOfWork, batches: Mapping[Partition, Sequence[Record]]) -> Progress:
        try:
            progress = await self._together(unit, batches)
        except Exception as e:
            log.info("batch rolled back, going one by one", extra={"reason": repr(e)})
            progress = Progress()
            for partition, records in batches.items():
                progress.add(await self._each_alone(unit, partition, records))
        try:
            await unit.relay(self._publisher)
        except EverloopError as e:
            if e.disposition is not Disposition.RETRY:
                progress.failure = progress.failure or e
            for partition in batches:  # the events are safe in the outbox; wait for the broker before making more
                progress.backoff_s.setdefault(partition, 1.0)
        return progress

    async def _together(self, unit: UnitOfWork, batches: Mapping[Partition, Sequence[Record]]) -> Progress:
        progress, events = Progress(), list[Event]()
        async with unit:
            stored = await unit.offsets()
            for partition, records in batches.items():
                for record in records:
                    if record.at.offset >= stored.get(partition, 0):
                        events += await self._handle(record)
                progress.next_offsets[partition] = max(records[-1].at.offset + 1, stored.get(partition, 0))
            await unit.record(events, progress.next_offsets)
        return progress

    async def _each_alone(self, unit: UnitOfWork, partition: Partition, records: Sequence[Record]) -> Progress:
        progress = Progress()
        try:
            for record in records:
                progress.next_offsets[partition] = await self._alone(unit, partition, record)
        except _Stopped:
            progress.backoff_s[partition] = self._fates.backoff_s(partition)
        except Exception as e:
            progress.failure = e
        return progress

    async def _alone(self, unit: UnitOfWork, partition: Partition, record: Record) -> int:
        after = record.at.offset + 1
        try:
            async with unit:
                stored = (await unit.offsets()).get(partition, 0)
                if record.at.offset < stored:
                    return stored
                await unit.record(await self._handle(record), {partition: after})
        except Exception as e:
            parked = self._park(record, e)
            try:
                async with unit:
                    await unit.record([parked], {partition: after})
            except EverloopError as failed:
                if failed.disposition is not Disposition.RETRY:
                    raise
                self._give_way(record, failed)
        return after

    async def _handle(self, record: Record) -> list[Event]:
        topic = record.at.topic
        self._consumed[topic].inc()
        if record.value is None:
            return []  # a tombstone of a compacted topic
        try:
            event = decode(topic, record.value)
        except ValueError as e:
            raise Rejected(f"not an event of {topic}: {e}") from e
        started = time.perf_counter()
        with traced(event.traceparent, loop=event.loop, id=event.id):
            caused = await self._handlers[topic](event, record.at)
        self._handled[topic].observe(time.perf_counter() - started)
        self._fates.handled(record.at)
        return [_traced(e, event) for e in caused]

    async def _handle_or_park(self, record: Record) -> list[Event]:
        try:
            return await self._handle(record)
        except Exception as e:
            return [self._park(record, e)]

    def _park(self, record: Record, error: Exception) -> Event:
        """The dead letter of a record that is given up; raises _Stopped to try again, the error to crash."""
        if self._fates.may_retry(record.at, error):
            raise _Stopped from error
        return self._fates.park(record.at, record.key, record.value, error)


def _traced(event: Event, cause: Event) -> Event:
    """The event with its cause's trace context (W3C), unless it has its own."""
    if event.traceparent or not cause.traceparent:
        return event
    return event.model_copy(update={"traceparent": cause.traceparent})
