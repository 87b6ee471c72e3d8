"""/metrics of several workers as one text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from everloop_serving.api.worker_metrics import merge_metrics


def metrics_of(count: int) -> str:
    """The metrics of a worker that counted so far."""
    registry = CollectorRegistry()
    Counter("made", "Made, by loop.", ["loop"], registry=registry).labels('a{"b} c').inc(count)
    Counter("plain", "Without labels.", registry=registry).inc(count)
    Histogram("seconds", "A time.", registry=registry, buckets=(1,)).observe(count)
    return generate_latest(registry).decode()


def test_each_sample_names_its_worker_below_one_description_of_its_metric() -> None:
    merged = merge_metrics({0: metrics_of(3), 1: metrics_of(5)})

    families = {f.name: f for f in text_string_to_metric_families(merged)}
    totals = {
        (s.name, s.labels["worker"]): s.value
        for f in families.values()
        for s in f.samples
        if s.name in ("made_total", "plain_total", "seconds_sum")
    }
    assert totals == {(n, w): v for n in ("made_total", "plain_total", "seconds_sum") for w, v in (("0", 3), ("1", 5))}
    assert {s.labels["loop"] for s in families["made"].samples} == {'a{"b} c'}
    assert merged.count("# HELP made_total") == merged.count("# TYPE made_total") == 1
