"""Concept drift on the served error: when to raise an alarm, and where the change most likely began."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log, sqrt
from operator import mul
from statistics import median
from typing import Literal

from everloop_monitoring.domain.detectors import Adwin, HddmW

COOLDOWN = 300
WINDOW = 1000
SHORTEST = 10
REFERENCE = 200
RECENT = 500
TOO_EASY = 0.1
LATELY = 50
EVIDENCE = 6.0
PATIENCE = 300
LOOK_EVERY = 8
MOST_LAGS = 50

Detector = Literal["hddm_w", "adwin"]


@dataclass(frozen=True)
class Alarm:
    """A rise of the served error. `change_point` is the offset of the likely first outcome after the change,
    `since` how many outcomes ago that was; the errors are means on either side of it."""

    detector: Detector
    offset: int
    change_point: int
    since: int
    error_before: float
    error_after: float


@dataclass(slots=True)
class Watch:
    """Watches one loop's served errors, each 0 or 1: HDDM-W or rise-only ADWIN, whichever is first.

    Both assume independent errors, and real ones come in runs. So a detector only raises a suspicion, and the alarm
    follows once the likelihood ratio of the rise, divided by how much the errors repeat each other, reaches
    `EVIDENCE`. Independent errors pass at once; a suspicion that finds no evidence is dropped after `PATIENCE`.
    After an alarm the detectors start anew, nothing is said for `COOLDOWN` outcomes, and the window forgets what
    came before the change point; a suspicion of that time is looked at when it is over. `seen` counts outcomes
    watched; `quiet_until` and `suspected` are in the same count.
    """

    hddm: HddmW = field(default_factory=HddmW)
    adwin: Adwin = field(default_factory=Adwin)
    offsets: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    seen: int = 0
    quiet_until: int = 0
    suspect: Detector | None = None
    suspected: int = 0

    def add(self, offset: int, error: int) -> Alarm | None:
        """Take in the error of the outcome at `offset`; the alarm if this one raises it."""
        self.seen += 1
        self.offsets.append(offset)
        self.errors.append(error)
        if len(self.errors) > WINDOW:
            del self.offsets[0], self.errors[0]
        self._suspect(error)
        if self.suspect is None or self.seen <= self.quiet_until:
            return None
        waited = self.seen - self.suspected
        if (waited % LOOK_EVERY == 0 or self.seen == self.quiet_until + 1) and (k := rise(self.errors)):
            return self._alarm(self.suspect, k)
        if waited > PATIENCE:
            self.suspect = None
        return None

    def restart(self) -> None:
        """Forget everything watched: the next error belongs to something else."""
        if self.errors:
            self._start_anew()
            self.offsets, self.errors = [], []

    def _suspect(self, error: int) -> None:
        hddm, adwin = self.hddm.add(error), self.adwin.add(error)
        if hddm or adwin:
            self._start_anew()
            self.suspect, self.suspected = "hddm_w" if hddm else "adwin", self.seen

    def _start_anew(self) -> None:
        self.hddm, self.adwin, self.suspect = HddmW(), Adwin(), None

    def _alarm(self, detector: Detector, k: int) -> Alarm:
        before, after = self.errors[:k], self.errors[k:]
        alarm = Alarm(
            detector=detector,
            offset=self.offsets[-1],
            change_point=self.offsets[k],
            since=len(after),
            error_before=_mean(before),
            error_after=_mean(after),
        )
        self._start_anew()
        self.quiet_until = self.seen + COOLDOWN
        self.offsets, self.errors = self.offsets[k:], after
        return alarm


def rise(errors: list[int]) -> int:
    """The index where the errors rose for good, 0 where the evidence is not enough or the rise is over."""
    k = change_point(errors)
    if not k:
        return 0
    before, after = errors[:k], errors[k:]
    gain = _log_likelihood(before) + _log_likelihood(after) - _log_likelihood(errors)
    over = 2 * _mean(after[-LATELY:]) <= _mean(before) + _mean(after)
    return 0 if over or gain < EVIDENCE * repetition(before, after) else k


def repetition(before: list[int], after: list[int]) -> float:
    """How many errors say as much as one independent error: their integrated autocorrelation time, at least 1.

    The sum over lags of the autocorrelation of the errors around the mean of their own side, up to the first lag
    that is not above its noise (two standard errors, Bartlett 1946).
    """
    left, right = _mean(before), _mean(after)
    residuals = [e - left for e in before] + [e - right for e in after]
    n = len(residuals)
    variance = sum(r * r for r in residuals) / n
    total = 1.0
    for lag in range(1, min(MOST_LAGS, n // 4) if variance else 0):
        correlation = sum(map(mul, residuals, residuals[lag:])) / n / variance
        if correlation <= 2 / sqrt(n):
            break
        total += 2 * correlation
    return total


def change_point(errors: list[int]) -> int:
    """The index where a rise of a Bernoulli error most likely began: the maximum of the likelihood ratio.

    Both sides hold at least `SHORTEST` errors; with no rise anywhere, the whole is one side and the answer is 0.
    """
    n, ones = len(errors), sum(errors)
    best, where, left = _weighted(ones, n), 0, 0
    for k in range(1, n - SHORTEST + 1):
        left += errors[k - 1]
        if k < SHORTEST or (ones - left) * k <= left * (n - k):
            continue
        likelihood = _weighted(left, k) + _weighted(ones - left, n - k)
        if likelihood > best:
            best, where = likelihood, k
    return where


def _mean(errors: list[int]) -> float:
    return sum(errors) / len(errors) if errors else 0.0


def _log_likelihood(errors: list[int]) -> float:
    return _weighted(sum(errors), len(errors))


def _weighted(ones: int, n: int) -> float:
    """The log-likelihood of n Bernoulli values with so many ones, at its maximum."""
    zeros = n - ones
    return (ones * log(ones / n) if ones else 0.0) + (zeros * log(zeros / n) if zeros else 0.0)


@dataclass(slots=True)
class Reference:
    """Turns a regression's absolute error into 0 or 1: is it above what was usual when the watch began?

    Usual is the median of the first `REFERENCE` errors. It stays fixed, because a running median would forgive a
    slow rise, and rise by itself after a better model took over. When the model has become so good that under a
    tenth of the last `RECENT` errors reach it, it is taken anew.
    """

    first: list[float] = field(default_factory=list)
    usual: float | None = None
    above: list[int] = field(default_factory=list)

    def judge(self, error: float) -> int | None:
        """1 above the usual error, 0 not above it, None while there is no usual one yet."""
        if self.usual is None:
            self.first.append(error)
            if len(self.first) >= REFERENCE:
                self.usual, self.first = median(self.first), []
            return None
        verdict = int(error > self.usual)
        self.above = [*self.above[-RECENT + 1 :], verdict]
        return verdict

    @property
    def outgrown(self) -> bool:
        """Whether the reference says nothing any more, and is to be taken anew."""
        return len(self.above) >= RECENT and sum(self.above) < TOO_EASY * RECENT
