"""Passes what Faust fetches on by the batch, beside its layers for single messages (decisions 0158, 0172)."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from faust.types import TP

from everloop_shared.messaging.faust.buffer import RecordBuffer
from everloop_shared.messaging.faust.changelogs import ChangelogReader
from everloop_shared.messaging.kafka.poller import records_of
from everloop_shared.messaging.processing.gathering import BatchGathering

PARTIAL_POLL_S = 0.02
"""How long a poll waits that leaves out partitions whose buffer is full; they may have room again by then."""


class BatchDelivery:
    """Delivers the records of our source topics to their buffers, and tells Faust which offsets to commit.

    Faust's own way is a task, an event, a queue and an acknowledgement for each record, which cost as much as handling
    it. Faust still owns the group, the polls, the commits and the recovery; of what it polls it sees only what is not
    ours. Our records are handled in order within a partition, so that one offset says what is done. Those of
    changelogs go to their reader.
    """

    def __init__(self, app: Any, new_gathering: Callable[[], BatchGathering]) -> None:
        self._app = app
        self._gatherings: dict[str, BatchGathering] = defaultdict(new_gathering)
        self._buffers: dict[str, tuple[str, RecordBuffer]] = {}
        self._handled: dict[TP, int] = {}
        self._poll: Any = None
        self.changelogs = ChangelogReader(app)

    def deliver(self, topic: str, name: str, buffer: RecordBuffer) -> None:
        """Deliver the records of `topic`, which is called `name` in positions, to this buffer."""
        self._buffers[topic] = name, buffer

    def install(self) -> None:
        """Take the place of the app's consumer's own delivery; call it before the app starts."""
        consumer = self._app.consumer
        self._poll = consumer._getmany
        consumer._getmany = self._getmany
        consumer._filter_tps_with_pending_acks = lambda topics=None: list(self._handled)
        consumer._filter_committable_offsets = self._committable
        consumer.verify_event_path = lambda now, tp: None  # it would miss the events; `stalled` watches our own

    def handled(self, tp: TP, next_offset: int) -> None:
        """The partition is handled up to here: its next commit may say so."""
        self._handled[tp] = max(next_offset, self._handled.get(tp, 0))

    def release(self) -> None:
        """The partitions are revoked: forget how far they are handled, as another replica may own them next."""
        self._handled.clear()

    def _committable(self, tps: Iterable[TP]) -> dict[TP, int]:
        should_commit = self._app.consumer._should_commit
        return {tp: self._handled[tp] for tp in tps if tp in self._handled and should_commit(tp, self._handled[tp])}

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[Any, Sequence[Any]]:
        """Poll; deliver what is ours, and return the rest."""
        await self._gather()
        consumer, active = self._app.consumer, active_partitions or set()
        wanted = {tp for tp in active if not self._is_full_for(tp)}
        if not wanted:  # which aiokafka would take for all partitions
            await asyncio.sleep(PARTIAL_POLL_S)
            return {}
        if len(wanted) < len(active):
            timeout = PARTIAL_POLL_S
        self.changelogs.tell_end()
        polled: Mapping[Any, Sequence[Any]] = await self._poll(wanted, timeout)
        if not polled or not consumer.flow_active:
            return polled  # without flow Faust seeks back to the commits
        self._record_batches(polled)
        active = consumer._get_active_partitions()
        rest = {}
        for tp, records in polled.items():
            if self.changelogs.has(tp.topic):
                await self.changelogs.read(TP(tp.topic, tp.partition), records)
            elif tp.topic not in self._buffers:
                rest[tp] = records
            elif tp in active:
                self._deliver(TP(tp.topic, tp.partition), records)
        self.changelogs.tell_end()
        return rest

    async def _gather(self) -> None:
        """Wait where one of the topics is fast; event, label and prediction of one row are not one fast stream."""
        for gathering in self._gatherings.values():
            if gathering.is_busy:
                await gathering.pause()
                return

    def _record_batches(self, polled: Mapping[Any, Sequence[Any]]) -> None:
        counts = Counter[str]()
        for tp, records in polled.items():
            counts[tp.topic] += len(records)
        for topic in self._gatherings.keys() | counts.keys():
            self._gatherings[topic].record_batch(counts[topic])

    def _is_full_for(self, tp: TP) -> bool:
        return tp.topic in self._buffers and self._buffers[tp.topic][1].is_full_for(tp)

    def _deliver(self, tp: TP, polled: Sequence[Any]) -> None:
        """Put records into their buffer, but those that were delivered before."""
        read_offsets = self._app.consumer._read_offset
        start = read_offsets[tp] or 0
        name, buffer = self._buffers[tp.topic]
        records = records_of(name, [r for r in polled if r.offset >= start])
        if records and buffer.add(tp, records):
            read_offsets[tp] = records[-1].at.offset + 1
