"""The growing pauses between attempts at something that may succeed later."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

LARGEST_EXPONENT = 30
"""Beyond it every pause is `longest_s`; larger powers would only overflow."""


@dataclass(frozen=True)
class Backoff:
    """Pauses that double from `first_s` to `longest_s`, so that a party that is away is not flooded.

    `jitter` is the share of each pause that is left to chance, so that many who wait do not come back together.
    """

    first_s: float
    longest_s: float
    jitter: float = 0.5

    def pause_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row (1 after the first)."""
        whole_s = min(self.first_s * 2.0 ** min(failures - 1, LARGEST_EXPONENT), self.longest_s)
        return whole_s * random.uniform(1.0 - self.jitter, 1.0)

    def pauses(self) -> Iterator[float]:
        """The pauses after the first failure, the second, and so on, without end."""
        return map(self.pause_s, count(1))


class Attempts:
    """The attempts at one thing, for `within_s` seconds in all."""

    def __init__(
        self, backoff: Backoff, within_s: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._backoff, self._clock = backoff, clock
        self._until = clock() + within_s
        self._failures = 0

    def pause_s(self, at_least_s: float = 0.0) -> float | None:
        """Seconds to wait after one more failure; None when the next attempt would come too late."""
        self._failures += 1
        pause_s = max(self._backoff.pause_s(self._failures), at_least_s)
        return pause_s if self._clock() + pause_s <= self._until else None
