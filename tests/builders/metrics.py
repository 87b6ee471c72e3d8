"""The values of Prometheus metrics."""

from __future__ import annotations

from prometheus_client.metrics import MetricWrapperBase


def metric_value(metric: MetricWrapperBase) -> float:
    """The value of a counter or gauge, of one label set where it has labels."""
    [value] = [s.value for family in metric.collect() for s in family.samples if not s.name.endswith("_created")]
    return value
