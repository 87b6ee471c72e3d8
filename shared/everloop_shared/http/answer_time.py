"""How long the answers of endpoints take that are asked thousands of times a second."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets, in seconds."""


class AnswerTime:
    """The answer times of one endpoint, at a fraction of what counting in `prometheus_client.Histogram` takes."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts, self.total_s = [0] * (len(BOUNDS) + 1), 0.0

    def observe(self, seconds: float) -> None:
        """Count an answer; to be called by the thread of the event loop only, as there is no lock."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total_s += seconds


class AnswerTimes(Collector):
    """The histogram of all endpoints."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], AnswerTime] = {}

    def of(self, service: str, endpoint: str) -> AnswerTime:
        """The answer times of an endpoint."""
        return self._times.setdefault((service, endpoint), AnswerTime())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The metric, of what was counted until now."""
        family = HistogramMetricFamily(
            "everloop_http_answer_seconds",
            "From the first byte of a request to the last of its answer, whatever its status.",
            labels=["service", "endpoint"],
        )
        for labels, time in list(self._times.items()):
            counts, total_s, below, buckets = list(time.counts), time.total_s, 0, []
            for bound, count in zip([*map(str, BOUNDS), "+Inf"], counts, strict=True):
                below += count
                buckets.append((bound, float(below)))
            family.add_metric(labels, buckets, total_s)
        yield family


ANSWER_TIMES = AnswerTimes()
REGISTRY.register(ANSWER_TIMES)
