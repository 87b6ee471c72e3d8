"""How long records may wait for a loop that is not known yet, so that nobody holds up a partition by naming others."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

PERIOD_S = 600.0
MAX_SPENT_SHARE = 0.9
"""A wait is begun where a tenth of the budget is left: less is spent on trying again."""
MAX_GIVEN_UP_LOOPS = 1_000
Partition = tuple[str, int]


class WaitBudget:
    """Each partition waits `give_up_after` seconds in ten minutes for all unknown loops together.

    A loop that was given up is not waited for again until it is taken out of `given_up`: until one of its records
    could be handled.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.given_up: OrderedDict[str, None] = OrderedDict()
        self._spent: dict[Partition, tuple[float, float]] = {}

    def may_wait(self, partition: Partition, loop: str, waited_s: float, give_up_after_s: float) -> bool:
        """Whether the record at hand, which has waited so long, may wait on; if not, its loop is given up."""
        if loop in self.given_up:
            return False
        before_s = self._spent_s(partition, give_up_after_s)
        worth_it = waited_s > 0 or before_s <= MAX_SPENT_SHARE * give_up_after_s
        if worth_it and before_s + waited_s < give_up_after_s:
            return True
        self._spent[partition] = (min(give_up_after_s, before_s + waited_s), self._clock())
        self.given_up[loop] = None
        if len(self.given_up) > MAX_GIVEN_UP_LOOPS:
            self.given_up.popitem(last=False)
        return False

    def _spent_s(self, partition: Partition, give_up_after_s: float) -> float:
        """What is left of the waits of the last ten minutes: they are forgotten evenly."""
        spent_s, at = self._spent.get(partition, (0.0, 0.0))
        return max(0.0, spent_s - (self._clock() - at) * give_up_after_s / PERIOD_S) if spent_s else 0.0
