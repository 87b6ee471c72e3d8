"""The anytime-valid test behind gate and guardrail: a mixture of bets that one line's loss is the lower one."""

from __future__ import annotations

from math import exp, log, log1p

from pydantic import BaseModel, Field

LAMBDAS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)


class Bet(BaseModel):
    """Evidence that the mean of a stream in [-1, 1] is above 0, as a wealth E that may be read after every value.

    Under a mean of at most 0 the chance that E ever reaches 1/alpha is at most alpha (Ville), whenever one looks.
    Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", 2023; DESIGN section 6.
    """

    sums: list[float] = Field(default_factory=lambda: [0.0] * len(LAMBDAS))
    outcomes: int = 0

    def add(self, x: float) -> None:
        """Take in one value; it counts as the nearest in [-1, 1]."""
        x = max(-1.0, min(1.0, x))
        self.sums = [s + log1p(bet * x) for s, bet in zip(self.sums, LAMBDAS, strict=True)]
        self.outcomes += 1

    @property
    def log_e(self) -> float:
        """ln E: logsumexp of the bets' log wealth, less ln 7."""
        top = max(self.sums)
        return top + log(sum(exp(s - top) for s in self.sums)) - log(len(self.sums))
