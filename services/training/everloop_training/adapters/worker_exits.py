"""Counts exits of the worker: what follows is a pause, an outcome that is parked, or the end of the service."""

from __future__ import annotations

import logging
import time

from everloop_schemas.feature import OutcomeObserved
from everloop_shared.backoff import Backoff
from everloop_shared.messaging.processing.crash_ledger import CrashLedger
from everloop_shared.messaging.processing.failures import CRASHES_BEFORE_DEAD_LETTER
from everloop_shared.messaging.routes import Position
from everloop_training.adapters.parked import ParkedOutcomes
from everloop_training.settings import TrainingSettings
from everloop_training.worker.protocol.progress import SNAPSHOT, read_in_progress

log = logging.getLogger(__name__)
UNEXPLAINED_EXITS, WITHIN_S = 5, 60.0
BACKOFF = Backoff(first_s=0.05, longest_s=5.0)


class WorkerExits:
    """Counts exits by the outcome that was in progress, over restarts of the service too.

    The third over the same outcome parks it, the third over the same snapshot deletes that. Five within a minute with
    nothing in progress end the service.
    """

    def __init__(self, settings: TrainingSettings, parked: ParkedOutcomes) -> None:
        self._settings, self._parked = settings, parked
        self._ledger = CrashLedger(settings.folder("training") / f"crashes-worker-{settings.instance}.json")
        self._unexplained: list[float] = []

    def clear_in_progress(self) -> None:
        """A worker is about to start: what the last one had in progress must not be blamed on this one."""
        self._settings.in_progress_file().unlink(missing_ok=True)

    async def record(self, pid: int) -> float:
        """The worker has exited; the seconds to wait before another starts. Raises RuntimeError for the fifth."""
        in_progress, now = read_in_progress(self._settings.in_progress_file()), time.monotonic()
        log.error("worker exited, starting another", extra={"pid": pid, "in_progress": in_progress})
        self._unexplained = [t for t in self._unexplained if now - t < WITHIN_S]
        if in_progress is not None:
            await self._blame(*in_progress)
        else:
            self._unexplained.append(now)
        if len(self._unexplained) >= UNEXPLAINED_EXITS:
            raise RuntimeError(f"the worker exited {len(self._unexplained)} times within {WITHIN_S:g} s")
        return BACKOFF.pause_s(1 + len(self._unexplained))

    async def _blame(self, partition: int, offset: int) -> None:
        if self._ledger.add(Position(OutcomeObserved.topic.name, partition, offset)) < CRASHES_BEFORE_DEAD_LETTER:
            return
        if offset == SNAPSHOT:
            log.error("snapshot deleted: the worker exited three times over it", extra={"partition": partition})
            (self._settings.snapshot_folder() / f"partition-{partition}.snapshot").unlink(missing_ok=True)
            return
        await self._parked.park(partition, offset, "crash_loop: the worker exited three times over this outcome")
