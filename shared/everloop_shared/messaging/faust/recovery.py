"""Repairs Faust's recovery, which loses events on a restart as it is released (decision 0010)."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import time
from typing import Any

from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from everloop_shared.messaging.kafka.client import FETCH_MAX_WAIT_MS
from everloop_shared.messaging.kafka.connection import repair as repair_connections
from everloop_shared.messaging.keyed.state import LogPosition

log = logging.getLogger(__name__)
CLOCK_TOLERANCE_MS = 60_000
TOMBSTONES_KEPT_MS = 12 * 3_600_000
"""Kafka removes the tombstones of a compacted topic after 24 hours."""

UPSTREAM = {
    "on_recovery_completed": "6ef567acf072e46da3fccbccc6d662371f634f622c3d510972d5df81f70ae3ac",
    "_wait": "ec7429b70176f8c688545780fdd6751714a1fa2ed247a9c0236adf9c99f16a53",
    "_build_offsets": "27eec86be06cb51f66dfd2572be2f9b41acd22c3570239bb5c554bd94e59a1d6",
    "getmany": "26fc5fc9f3b667e104f9657dbc49da3b3b6620d40cc9856761cbaf4da2172557",
}
"""SHA-256 of the source of the methods replaced here or used by the replacements, in faust-streaming 0.15.3."""


def upstream_digest(name: str) -> str:
    """The digest of an original method of Faust's Recovery."""
    replaced: dict[str, Any] = {
        "on_recovery_completed": _STOCK,
        "_build_offsets": _STOCK_BUILD_OFFSETS,
        "getmany": _STOCK_GETMANY,
    }
    method = replaced.get(name) or getattr(Recovery, name)
    return hashlib.sha256(inspect.getsource(method).encode()).hexdigest()


async def on_recovery_completed(self: Any, generation_id: int = 0) -> None:
    """Resume the source partitions last, once each of them is at its committed offset.

    The original method resumes them, seeks, and then clears the queues: events that arrive in between never reach the
    agent. And it seeks only where an offset was committed: after a first session that was killed before its first
    commit, it would continue near the end of the log.
    """
    consumer = self.app.consumer
    await self.app.on_rebalance_complete.send()
    self._set_recovery_ended()
    callbacks = [
        asyncio.ensure_future(
            table.on_recovery_completed(self.actives_for_table[table], self.standbys_for_table[table])
        )
        for table in self.tables.values()
    ]
    if callbacks:
        await asyncio.wait(callbacks)
    for done in callbacks:
        done.result()
    assignment = consumer.assignment()
    if self.app.consumer_generation_id != generation_id:
        return
    sources = {tp for tp in assignment if not self._is_changelog_tp(tp)}
    consumer.pause_partitions(sources)
    await _polls_that_ask_for(sources, consumer._thread)
    if assignment:
        await self._wait(consumer.perform_seek(), timeout=self.app.conf.broker_request_timeout)
    await _seek_uncommitted(consumer, sources)
    self.completed.set()
    self.app.flow_control.resume()
    consumer.resume_flow()
    await self.app._fetcher.maybe_start()
    consumer.resume_partitions(sources)
    self.tables.on_actives_ready()
    if not self.app.assignor.assigned_standbys():
        self.tables.on_standbys_ready()
    self.app.on_rebalance_end()


async def _seek_uncommitted(consumer: Any, sources: set[Any]) -> None:
    fresh = [tp for tp in sources if not consumer._committed_offset[tp]]
    if fresh:
        for tp, offset in (await consumer.earliest_offsets(*fresh)).items():
            await consumer.seek(tp, offset or 0)


async def build_offsets(self: Any, consumer: Any, tps: set[Any], destination: Any, title: str) -> None:
    """Where the state on disk does not belong to the changelog as it is, delete it, and read from the beginning.

    The original method takes every persisted offset for one of this log.
    """
    stored = {tp: position for tp in tps if (position := self.tp_to_table[tp].data.stored_position(tp.partition))}
    if stored:
        thread = consumer._thread
        later = await thread.call_thread(
            thread._ensure_consumer().offsets_for_times,
            {tp: position.latest_ms + CLOCK_TOLERANCE_MS for tp, position in stored.items()},
        )
        for tp, position in stored.items():
            reason = why_not_of_this_log(position, self.active_highwaters[tp], later.get(tp), time.time() * 1000)
            if reason:
                log.warning("the state on disk is deleted and read from the changelog again: %s: %s", tp, reason)
                self.tp_to_table[tp].data.forget_partition(tp.partition)
                destination[tp] = None
    await _STOCK_BUILD_OFFSETS(self, consumer, tps, destination, title)


def why_not_of_this_log(position: LogPosition, last_offset: int, later: Any, now_ms: float) -> str | None:
    """Why the rest of a log does not continue a state that was read up to `position`; None where it does.

    `later` has the `offset` of the first record that is later than all that the state was made from.
    """
    if position.offset > last_offset:
        return f"it is of offset {position.offset}, and the log ends at {last_offset}"
    if later is not None and later.offset <= position.offset:
        return f"it is of offset {position.offset}, and offset {later.offset} of the log is later than that"
    if position.offset < last_offset and position.written_ms + TOMBSTONES_KEPT_MS < now_ms:
        return "it is so old that the log may not have all deletions since then"
    return None


async def getmany(self: Any, active_partitions: Any, timeout: float) -> Any:
    """Fetch from the partitions that are active now.

    The original method passes the mutable set to another thread. Between the end of a recovery and the resumption of
    the sources it is empty, which aiokafka takes for all partitions: a poll in progress returns events fetched after
    the seek, the position advances, and Faust drops the events, because their partition is not active yet.
    """
    active = None if active_partitions is None else set(active_partitions)
    over = asyncio.Event()
    self.poll_under_way = active or set(), over
    try:
        return await _STOCK_GETMANY(self, active, timeout)
    finally:
        over.set()


def _create_worker_consumer(self: Any, transport: Any) -> Any:
    """Faust's consumer with our wait for idle partitions; its own delays the other partitions for 1.5 s."""
    consumer = _STOCK_CREATE(self, transport)
    consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
    return consumer


async def _polls_that_ask_for(sources: set[Any], thread: Any) -> None:
    """Wait for a poll that began before the sources were paused: it would return events fetched after the seek."""
    asked, over = getattr(thread, "poll_under_way", (set(), None))
    if over and asked & sources:
        await over.wait()


_STOCK = Recovery.on_recovery_completed
_STOCK_BUILD_OFFSETS = Recovery._build_offsets
_STOCK_GETMANY = AIOKafkaConsumerThread.getmany
_STOCK_CREATE = AIOKafkaConsumerThread._create_worker_consumer


def repair() -> None:
    """Install the replacements; call it before an app is built. Idempotent."""
    repair_connections()
    Recovery.on_recovery_completed = on_recovery_completed  # type: ignore[method-assign]
    Recovery._build_offsets = build_offsets  # type: ignore[method-assign]
    AIOKafkaConsumerThread.getmany = getmany  # type: ignore[method-assign]
    AIOKafkaConsumerThread._create_worker_consumer = _create_worker_consumer  # type: ignore[method-assign]
