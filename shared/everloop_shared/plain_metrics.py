"""Counters and histograms of what happens thousands of times a second: plain numbers, collected at the scrape.

They take a fraction of the time of those of `prometheus_client`, as there is no lock: one thread may count, that of the
event loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

Labels = tuple[str, ...]


class Count:
    """One series of a counter; who counts adds to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Counts(Collector):
    """A counter by labels, registered under its name."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str]) -> None:
        self._name, self._meaning, self._labels = name, meaning, labels
        self._series: dict[Labels, Count] = {}
        REGISTRY.register(self)

    def of(self, *labels: str) -> Count:
        """The series with these labels."""
        return self._series.setdefault(labels, Count())

    def remove(self, *labels: str) -> None:
        """Remove a series."""
        self._series.pop(labels, None)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The metric, of what was counted until now."""
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        for labels, count in list(self._series.items()):
            family.add_metric(labels, count.value)
        yield family


class Times:
    """One series of a histogram of seconds."""

    __slots__ = ("_bounds", "counts", "total_s")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts, self.total_s = [0] * (len(bounds) + 1), 0.0

    def observe(self, seconds: float) -> None:
        """Count one of them."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.total_s += seconds


class TimesBy(Collector):
    """A histogram of seconds by labels, with these upper bounds of its buckets, registered under its name."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name, self._meaning, self._labels, self._bounds = name, meaning, labels, bounds
        self._series: dict[Labels, Times] = {}
        REGISTRY.register(self)

    def of(self, *labels: str) -> Times:
        """The series with these labels."""
        return self._series.setdefault(labels, Times(self._bounds))

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The metric, of what was counted until now."""
        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        for labels, times in list(self._series.items()):
            counts, total_s, below, buckets = list(times.counts), times.total_s, 0, []
            for bound, count in zip([*map(str, self._bounds), "+Inf"], counts, strict=True):
                below += count
                buckets.append((bound, float(below)))
            family.add_metric(labels, buckets, total_s)
        yield family
