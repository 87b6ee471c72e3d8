"""Two drift detectors as plain numbers, so that their state is JSON and a restarted detector continues bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log, sqrt


@dataclass(frozen=True)
class HddmWParameters:
    """Parameters of HDDM-W (Frias-Blanco et al. 2015).

    `drift_confidence` is the probability of a false alarm in McDiarmid's bound, a share; `newest_weight` is the
    paper's lambda, the weight of the newest value in the moving average, a share.
    """

    drift_confidence: float = 2e-4
    newest_weight: float = 0.01


@dataclass(frozen=True)
class AdwinParameters:
    """Parameters of ADWIN2 (Bifet and Gavalda 2007).

    `delta` is the confidence of a cut, a share. The window is examined every `check_every_values` values, once it
    holds more than `grace_values`; both sides of a cut hold at least `min_side_values`. A row keeps at most
    `max_buckets_per_row` buckets (the paper's M).
    """

    delta: float = 0.02
    check_every_values: int = 32
    grace_values: int = 10
    min_side_values: int = 5
    max_buckets_per_row: int = 5


HDDM_W = HddmWParameters()
LOG_CONFIDENCE = log(1 / HDDM_W.drift_confidence)
ADWIN = AdwinParameters()


@dataclass(slots=True)
class Ewma:
    """An exponentially weighted mean with McDiarmid's bound: `bound` is the sum of its squared weights."""

    n: int = 0
    mean: float = 0.0
    bound: float = 1.0

    def add(self, x: float) -> None:
        """Add one value in [0, 1]."""
        weight = HDDM_W.newest_weight
        self.mean = x if self.n == 0 else self.mean + weight * (x - self.mean)
        self.bound = weight**2 + (1 - weight) ** 2 * self.bound
        self.n += 1


@dataclass(slots=True)
class HddmW:
    """HDDM with weighted moving averages, one-sided: detects that the mean has risen.

    Frias-Blanco et al., "Online and Non-Parametric Drift Detection Methods Based on Hoeffding's Bounds",
    IEEE TKDE 27(3), 2015. `before` is the total when its upper bound was lowest, `after` the values since then.
    """

    total: Ewma = field(default_factory=Ewma)
    before: Ewma = field(default_factory=Ewma)
    after: Ewma = field(default_factory=Ewma)
    low: float | None = None

    def add(self, x: float) -> bool:
        """Add one value in [0, 1]; True when the mean has risen."""
        self.total.add(x)
        high = self.total.mean + _mcdiarmid(self.total.bound)
        if self.low is None or high < self.low:
            self.low = high
            self.before = Ewma(self.total.n, self.total.mean, self.total.bound)
            self.after = Ewma()
            return False
        self.after.add(x)
        return self.after.mean - self.before.mean > _mcdiarmid(self.before.bound + self.after.bound)


def _mcdiarmid(bound: float) -> float:
    return sqrt(bound * LOG_CONFIDENCE / 2)


@dataclass(slots=True)
class Adwin:
    """ADWIN2, rise-only: cuts its window wherever two parts differ, detects only that the newer mean is higher.

    Bifet and Gavalda, "Learning from Time-Changing Data with Adaptive Windowing", SDM 2007. Row r holds buckets of
    2**r values, oldest first, each as (sum, sum of squared deviations).
    """

    rows: list[list[tuple[float, float]]] = field(default_factory=lambda: [[]])
    width: int = 0
    total: float = 0.0
    deviation: float = 0.0
    ticks: int = 0

    def add(self, x: float) -> bool:
        """Add one value; True when the mean has risen, which is examined every `check_every_values` values."""
        if self.width:
            self.deviation += (x - self.total / self.width) ** 2 * self.width / (self.width + 1)
        self.rows[0].append((x, 0.0))
        self.width += 1
        self.total += x
        self._compress()
        self.ticks += 1
        if self.ticks % ADWIN.check_every_values or self.width <= ADWIN.grace_values:
            return False
        risen = False
        while (rise := self._cut()) is not None:
            risen = risen or rise
        return risen

    def _compress(self) -> None:
        for r, row in enumerate(self.rows):
            if len(row) <= ADWIN.max_buckets_per_row:
                return
            (a, da), (b, db) = row[:2]
            size = 1 << r
            del row[:2]
            if r + 1 == len(self.rows):
                self.rows.append([])
            self.rows[r + 1].append((a + b, da + db + (a - b) ** 2 / (2 * size)))

    def _cut(self) -> bool | None:
        """Drop the oldest bucket if the window can be split; whether the newer part was higher, None for no split."""
        confidence = log(2 * log(self.width) / ADWIN.delta) if self.width > 2 else 0.0
        spread = self.deviation / self.width if self.width else 0.0
        shortest = ADWIN.min_side_values
        old_n, old_sum = 0, 0.0
        for r in range(len(self.rows) - 1, -1, -1):
            for bucket in self.rows[r]:
                old_n += 1 << r
                old_sum += bucket[0]
                new_n = self.width - old_n
                if new_n < shortest:
                    return None
                if old_n < shortest:
                    continue
                difference = (self.total - old_sum) / new_n - old_sum / old_n
                m = 1 / (old_n - shortest + 1) + 1 / (new_n - shortest + 1)
                if abs(difference) > sqrt(2 * m * spread * confidence) + 2 / 3 * confidence * m:
                    self._drop_oldest()
                    return difference > 0
        return None

    def _drop_oldest(self) -> None:
        size = 1 << (len(self.rows) - 1)
        value, deviation = self.rows[-1].pop(0)
        self.width -= size
        self.total -= value
        gap = value / size - self.total / self.width
        self.deviation = max(0.0, self.deviation - deviation - gap**2 * size * self.width / (size + self.width))
        while len(self.rows) > 1 and not self.rows[-1]:
            self.rows.pop()
