"""Metrics of serving are by line: a new version of a line makes no new series."""

from __future__ import annotations

from prometheus_client import REGISTRY

from everloop_models import ModelPrediction
from everloop_serving.domain.predict import PredictionResult, VersionFailure
from everloop_serving.metrics import PrometheusMetrics

PREFIX = "everloop_serving_"


def result(version: str, *failures: str) -> PredictionResult:
    failed = tuple(VersionFailure(each, "not finite") for each in failures)
    return PredictionResult(ModelPrediction(True, None), version, "champion", 1.0, 0.5, (), failed)


def served(loop: str, line: str) -> float | None:
    labels = {"loop": loop, "line": line, "role": "champion", "endpoint": "rest"}
    return REGISTRY.get_sample_value(f"{PREFIX}predictions_total", labels)


def offset(loop: str, line: str) -> float | None:
    return REGISTRY.get_sample_value(f"{PREFIX}version_offset", {"loop": loop, "line": line})


def test_versions_of_a_line_are_one_series_with_the_offset_as_its_value() -> None:
    metrics = PrometheusMetrics()

    for version in ("a-0@9", "a-0@10", "a-0@8"):
        metrics.count_prediction("by-line", "rest", result(version))

    assert (served("by-line", "a-0"), offset("by-line", "a-0")) == (3, 8)


def test_failures_are_counted_by_line() -> None:
    metrics = PrometheusMetrics()

    for version in ("b-0@1", "b-0@2"):
        metrics.count_prediction("failing", "rest", result("0", version))

    labels = {"loop": "failing", "line": "b-0"}
    assert REGISTRY.get_sample_value(f"{PREFIX}fell_back_total", labels) == 2
    assert (served("failing", "0"), offset("failing", "0")) == (2, -1)


def test_series_of_the_oldest_lines_are_removed() -> None:
    metrics = PrometheusMetrics(series_per_loop=2)

    for line in "abc":
        metrics.count_prediction("bounded", "rest", result(f"{line}-0@1"))

    assert [served("bounded", f"{line}-0") for line in "abc"] == [None, 1, 1]
    assert [offset("bounded", f"{line}-0") for line in "abc"] == [None, 1, 1]
