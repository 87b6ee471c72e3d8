"""Bounds how long records wait for loops that are not known yet, so that unknown names cannot block a partition."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from everloop_shared.messaging.routes import Partition

BUDGET_PERIOD_S = 600.0
MAX_SPENT_SHARE = 0.9
"""A new wait begins only while a tenth of the budget is left; with less, the waits would be too short to help."""
MAX_GIVEN_UP_LOOPS = 1_000


class WaitBudget:
    """Each partition waits at most `give_up_after` seconds in ten minutes, for all unknown loops together.

    A loop in `given_up` is not waited for again. Its owner removes it there once a record of the loop was handled.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.given_up: OrderedDict[str, None] = OrderedDict()
        self._spent: dict[Partition, tuple[float, float]] = {}

    def may_wait(self, partition: Partition, loop: str, waited_s: float, give_up_after_s: float) -> bool:
        """Whether a record that has waited `waited_s` may wait longer; if not, its loop is given up."""
        if loop in self.given_up:
            return False
        before_s = self._spent_s(partition, give_up_after_s)
        enough_left = waited_s > 0 or before_s <= MAX_SPENT_SHARE * give_up_after_s
        if enough_left and before_s + waited_s < give_up_after_s:
            return True
        self._spent[partition] = (min(give_up_after_s, before_s + waited_s), self._clock())
        self.given_up[loop] = None
        if len(self.given_up) > MAX_GIVEN_UP_LOOPS:
            self.given_up.popitem(last=False)
        return False

    def _spent_s(self, partition: Partition, give_up_after_s: float) -> float:
        """The seconds spent on waiting; they expire at an even rate over ten minutes."""
        spent_s, at = self._spent.get(partition, (0.0, 0.0))
        return max(0.0, spent_s - (self._clock() - at) * give_up_after_s / BUDGET_PERIOD_S) if spent_s else 0.0
