"""The anytime-valid test behind gate and guardrail: a mixture of bets that one line's loss is the lower one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import exp, log, log1p
from operator import add

from pydantic import BaseModel, Field

BET_SIZES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""The share of its wealth that each bet of the mixture stakes on every value."""


class BettingTest(BaseModel):
    """Evidence that the mean of a stream in [-1, 1] is above 0, as a wealth E that may be read after every value.

    While the mean is at most 0, the probability that E ever reaches 1/alpha is at most alpha (Ville's inequality), so
    the test may be read after every value. Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
    betting", 2023. `sums` holds the log wealth of each bet.
    """

    sums: list[float] = Field(default_factory=lambda: [0.0] * len(BET_SIZES))
    outcomes: int = 0

    def add(self, x: float) -> None:
        """Take in one value; it counts as the nearest in [-1, 1]."""
        self.outcomes += 1
        self._bet(x)

    def add_block(self, values: Iterable[float], outcomes: int) -> None:
        """Take in the values of a block of so many outcomes, each as `add` does."""
        self.outcomes += outcomes
        for x in values:
            self._bet(x)

    def _bet(self, x: float) -> None:
        if x:
            self.sums[:] = map(add, self.sums, _gains(max(-1.0, min(1.0, x))))

    def reaches(self, log_threshold: float) -> bool:
        """Whether ln E is at least this; it is never above the best bet's, which is quicker to find."""
        return max(self.sums) >= log_threshold and self.log_e >= log_threshold

    @property
    def log_e(self) -> float:
        """ln E: logsumexp of the bets' log wealth, less ln 7."""
        top = max(self.sums)
        return top + log(sum(exp(s - top) for s in self.sums)) - log(len(self.sums))


@lru_cache(maxsize=1_000)
def _gains(x: float) -> tuple[float, ...]:
    """What a value adds to the log wealth of each bet; losses of classes differ by -1 or 1."""
    return tuple(log1p(size * x) for size in BET_SIZES)
