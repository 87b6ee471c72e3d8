"""Intervals for means that hold at every time at once, so that looking at them again and again costs no confidence."""

from __future__ import annotations

from math import exp, expm1, log, log1p, sqrt

ALPHA = 0.05
RATES = tuple(8.0 / 2**k for k in range(14))
"""Betting rates of the mixture: the largest decide after a few outcomes, the smallest after a million."""
STEPS = 14
"""Halvings of an interval that is searched: bounds are found to 1e-4."""
TUNED_OUTCOMES = 500
MIN_OUTCOMES = 30
"""For the asymptotic interval."""


def bounded_interval(total: float, n: int, alpha: float = ALPHA) -> tuple[float, float] | None:
    """A 1 - alpha confidence sequence for the mean of `n` numbers in [0, 1] that sum up to `total`; None for n = 0.

    It covers the average of the expected numbers so far, at all n at once and without assumptions about them, also
    where models and data change: for each rate r, exp(r sum - n log(1 - m + m exp(r))) is at most a supermartingale,
    because the logarithm is concave in m, and so is a fixed mixture over rates (method of mixtures: Robbins 1970;
    Howard, Ramdas, McAuliffe and Sekhon 2021). It depends on sum and number alone, so that a correction changes it as
    if the label had been right at once.
    """
    if n <= 0:
        return None
    total = min(float(n), max(0.0, total))
    return _lower(total, n, alpha / 2), 1.0 - _lower(n - total, n, alpha / 2)


def _lower(total: float, n: int, alpha: float) -> float:
    low, high, limit = 0.0, total / n, log(len(RATES) / alpha)
    for _ in range(STEPS):
        middle = (low + high) / 2
        bets = [rate * total - n * log1p(middle * expm1(rate)) for rate in RATES]
        top = max(bets)
        if top + log(sum(exp(bet - top) for bet in bets)) > limit:
            low = middle
        else:
            high = middle
    return low


def asymptotic_interval(mean: float, mean_square: float, n: int, alpha: float = ALPHA) -> tuple[float, float] | None:
    """A 1 - alpha confidence sequence for the mean of `n` unbounded numbers, from their mean and mean square.

    It holds at all n at once in the limit, as the central limit theorem does (Waudby-Smith, Arbour, Sinha, Kennedy and
    Ramdas 2024), narrowest at about 500. None below 30 numbers.
    """
    if n < MIN_OUTCOMES:
        return None
    rho = (2 * log(1 / alpha) + log1p(2 * log(1 / alpha))) / TUNED_OUTCOMES
    spread = max(0.0, mean_square - mean * mean)
    width = sqrt(spread * 2 * (n * rho + 1) / (n * n * rho) * log(sqrt(n * rho + 1) / alpha))
    return mean - width, mean + width
