"""Where a rise of a Bernoulli error began, and whether the evidence for it is enough: a likelihood ratio test."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt
from operator import mul


@dataclass(frozen=True)
class ChangePointParameters:
    """Parameters of the likelihood ratio test for a rise of a Bernoulli error.

    `evidence_nats` is the log-likelihood ratio, per independent error, from which a rise counts as real (e**6 to
    one). Both sides of a change point hold at least `min_side_errors`. The rise is over when the last
    `recent_errors` are nearer to the mean before than to the mean after it. The autocorrelation is summed over
    `max_lag_errors` lags at most.
    """

    evidence_nats: float = 6.0
    min_side_errors: int = 10
    recent_errors: int = 50
    max_lag_errors: int = 50


CHANGE_POINT = ChangePointParameters()


def find_rise(errors: list[int]) -> int:
    """The index where the errors rose and stayed high, 0 where the evidence is not enough or the rise is over."""
    k = find_change_point(errors)
    if not k:
        return 0
    before, after = errors[:k], errors[k:]
    gain = _log_likelihood_of(before) + _log_likelihood_of(after) - _log_likelihood_of(errors)
    is_over = 2 * mean_error(after[-CHANGE_POINT.recent_errors :]) <= mean_error(before) + mean_error(after)
    return 0 if is_over or gain < CHANGE_POINT.evidence_nats * autocorrelation_time(before, after) else k


def find_change_point(errors: list[int]) -> int:
    """The index where a rise of a Bernoulli error most likely began: the maximum of the likelihood ratio.

    Both sides hold at least `min_side_errors`; 0 where the errors rise nowhere.
    """
    n, ones, shortest = len(errors), sum(errors), CHANGE_POINT.min_side_errors
    best, best_index, left = _log_likelihood(ones, n), 0, 0
    for k in range(1, n - shortest + 1):
        left += errors[k - 1]
        if k < shortest or (ones - left) * k <= left * (n - k):
            continue
        likelihood = _log_likelihood(left, k) + _log_likelihood(ones - left, n - k)
        if likelihood > best:
            best, best_index = likelihood, k
    return best_index


def autocorrelation_time(before: list[int], after: list[int]) -> float:
    """How many errors carry as much information as one independent error: at least 1.

    The integrated autocorrelation time: the sum over lags of the autocorrelation of the errors around the mean of
    their own side, up to the first lag that is not above its noise (two standard errors, Bartlett 1946).
    """
    left, right = mean_error(before), mean_error(after)
    residuals = [e - left for e in before] + [e - right for e in after]
    n = len(residuals)
    variance = sum(r * r for r in residuals) / n
    total = 1.0
    for lag in range(1, min(CHANGE_POINT.max_lag_errors, n // 4) if variance else 0):
        correlation = sum(map(mul, residuals, residuals[lag:])) / n / variance
        if correlation <= 2 / sqrt(n):
            break
        total += 2 * correlation
    return total


def mean_error(errors: list[int]) -> float:
    """The mean, 0 of no errors."""
    return sum(errors) / len(errors) if errors else 0.0


def _log_likelihood_of(errors: list[int]) -> float:
    return _log_likelihood(sum(errors), len(errors))


def _log_likelihood(ones: int, n: int) -> float:
    """The log-likelihood of n Bernoulli values with so many ones, at its maximum."""
    zeros = n - ones
    return (ones * log(ones / n) if ones else 0.0) + (zeros * log(zeros / n) if zeros else 0.0)
