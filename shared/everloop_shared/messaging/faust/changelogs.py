"""Takes the records of changelogs from a poll to the state on disk, while Faust recovers (decision 0172)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from faust.types import TP

log = logging.getLogger(__name__)
CHUNK = 2_000
"""Records that are restored before others of this process get a turn: 20 ms of work."""
REPORT_EVERY_S = 10.0

Restore = Callable[[int, Sequence[Any], int], None]
"""Applies records of a partition of a changelog, all of them or none; and is told how many are left at most."""


class ChangelogReader:
    """What reads changelogs in place of Faust's queue, which takes a task, an event and two waits for each record.

    Faust still says which partitions are recovered, from which offset and up to which; it is told how far they are.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._restores: dict[str, Restore] = {}
        self._reported_at = 0.0

    def add(self, topic: str, restore: Restore) -> None:
        """Pass the records of this changelog to `restore`."""
        self._restores[topic] = restore

    def has(self, topic: str) -> bool:
        """Whether this is one of the changelogs."""
        return topic in self._restores

    async def read(self, tp: TP, polled: Sequence[Any]) -> None:
        """Restore records of a partition that is being recovered, but those that the state has already."""
        recovery, restore = self._app.tables.recovery, self._restores[tp.topic]
        offsets, known = recovery.active_offsets, recovery.active_offsets.get(tp)
        records = [r for r in polled if known is None or r.offset > known]
        for start in range(0, len(records), CHUNK):
            stopped = not self._app.consumer.flow_active
            if stopped or tp not in recovery.active_tps or offsets.get(tp) != known:
                return  # a rebalance came in between: what follows is read again from where the state is then
            chunk = records[start : start + CHUNK]
            last = chunk[-1].offset
            restore(tp.partition, chunk, max(0, (recovery.active_highwaters.get(tp) or 0) - last))
            offsets[tp] = known = last
            recovery._active_events_received_at[tp] = recovery._last_flush_at = time.monotonic()
            self._report(recovery)
            await asyncio.sleep(0)

    def tell_end(self) -> None:
        """Let the recovery go on once all is restored. Call it after each poll: nobody may be waiting for it yet."""
        recovery = self._app.tables.recovery
        if recovery.in_recovery and not recovery.need_recovery():
            recovery.signal_recovery_end.set()
            recovery.signal_recovery_end.clear()  # it is for who waits now, not for the next recovery

    def _report(self, recovery: Any) -> None:
        if time.monotonic() > self._reported_at + REPORT_EVERY_S:
            self._reported_at = time.monotonic()
            log.info("restoring state from the changelogs", extra={"records_left": recovery.active_remaining_total()})
