"""/metrics of several workers as one text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, generate_latest
from prometheus_client.openmetrics import exposition, parser
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


def test_openmetrics_of_several_workers_ends_once() -> None:
    def text(count: int) -> str:
        registry = CollectorRegistry()
        Counter("made", "Made, by loop.", ["loop"], registry=registry).labels("a").inc(count)
        Info("built", "What runs.", registry=registry).info({"version": "1"})
        exposed: bytes = exposition.generate_latest(registry)  # type: ignore[no-untyped-call]
        return exposed.decode()

    merged = merge_metrics({0: text(3), 1: text(5)})

    parsed = parser.text_string_to_metric_families(merged)  # type: ignore[no-untyped-call]
    totals = {s.labels["worker"]: s.value for f in parsed for s in f.samples if s.name == "made_total"}
    assert totals == {"0": 3, "1": 5}
    assert merged.endswith("\n# EOF\n")
    assert merged.count("# EOF") == 1
