"""What follows from the deaths of the worker: a pause, an outcome that is parked, or the end of the service."""

from __future__ import annotations

import logging
import random
import time

from everloop_schemas.feature import OutcomeObserved
from everloop_shared.messaging.processing.crash_ledger import CrashLedger
from everloop_shared.messaging.processing.failures import CRASHES_BEFORE_PARKING
from everloop_shared.messaging.routes import Position
from everloop_training.adapters.history import History
from everloop_training.adapters.parked import Parked
from everloop_training.adapters.pump import Pump
from everloop_training.at_work import SNAPSHOT, left_behind
from everloop_training.settings import TrainingSettings

log = logging.getLogger(__name__)
DEATHS, DEATHS_WITHIN_S = 5, 60.0


class Deaths:
    """Counts them, over restarts of the service too, by the outcome that the worker had in hand.

    The third over the same outcome parks it, over the same snapshot drops that. Five within a minute over nothing
    that can be named end the service.
    """

    def __init__(self, settings: TrainingSettings, parked: Parked) -> None:
        self._settings, self._parked = settings, parked
        self._ledger = CrashLedger(settings.folder("training") / f"crashes-worker-{settings.instance}.json")
        self._nameless: list[float] = []

    def forget_place(self) -> None:
        """A worker is about to start: what the last one had in hand says nothing of this one."""
        self._settings.at_work_file().unlink(missing_ok=True)

    async def another(self, pid: int, history: History, pump: Pump) -> float:
        """The worker has died; the seconds to wait before the next is started. Raises RuntimeError at the fifth."""
        in_hand, now = left_behind(self._settings.at_work_file()), time.monotonic()
        log.error("worker died, starting another", extra={"pid": pid, "over": in_hand})
        self._nameless = [t for t in self._nameless if now - t < DEATHS_WITHIN_S]
        if in_hand is not None:
            await self._blame(*in_hand, history, pump)
        else:
            self._nameless.append(now)
        if len(self._nameless) >= DEATHS:
            raise RuntimeError(f"the worker died {len(self._nameless)} times within {DEATHS_WITHIN_S:g} s")
        return float(0.05 * 2 ** len(self._nameless) * random.uniform(0.5, 1.0))

    async def _blame(self, partition: int, offset: int, history: History, pump: Pump) -> None:
        if self._ledger.add(Position(OutcomeObserved.topic.name, partition, offset)) < CRASHES_BEFORE_PARKING:
            return
        if offset == SNAPSHOT:
            log.error("snapshot dropped: the worker died three times over it", extra={"partition": partition})
            (self._settings.snapshot_folder() / f"partition-{partition}.snapshot").unlink(missing_ok=True)
            return
        reason = "crash_loop: the worker died three times over this outcome"
        await self._parked.park(history, pump, partition, offset, reason)
