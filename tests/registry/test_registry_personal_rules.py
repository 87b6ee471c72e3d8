"""What a loop file may not ask of personal fields, with the field and the fix; all else of it stays allowed."""

from __future__ import annotations

import re

import pytest
from tests.registry.spec_refusals import errors_of

from everloop_registry.domain.spec_file import read_spec

PERSONAL = """
loop: x
task: binary
schema:
  income: {type: number, personal: true}
  price: {type: number}
features:
- fields: all
- {name: mean_income, mean: income, over: 5 events}
- {name: ratio, expr: price / mean_income}
"""


@pytest.mark.parametrize(
    ("more", "path", "said"),
    [
        ("monitor: {drift: [price, income]}", "monitor.drift.1", "income follows from a personal field"),
        ("monitor: {drift: [ratio]}", "monitor.drift.0", r"ratio follows .* personal: false for .*\(income\)"),
        ("monitor: {slices: [mean_income]}", "monitor.slices.0", "monitoring never sees"),
        ("monitor: {fairness: [income]}", "monitor.fairness.0", "leave it out"),
        ("expect: [{field: income, between: [0, 9]}]", "expect.0.then", "write then: dead_letter"),
        ("models: [{estimator: river.neighbors.KNNClassifier}]", "models.0.estimator", "keeps rows"),
        ("models: [{estimator: sklearn.svm.SVC}]", "models.0.estimator", "keeps rows"),
    ],
)
def test_what_needs_clear_values_where_no_keys_are_is_refused_with_the_fix(more: str, path: str, said: str) -> None:
    errors = errors_of(PERSONAL + more)

    assert re.search(said, errors[path])


def test_what_works_without_clear_values_is_allowed_and_personal_may_be_added_and_removed() -> None:
    more = "monitor: {drift: all, slices: [price], quality: true, anomalies: true}\n"
    expected = (
        "expect: [{field: income, between: [0, 9], then: dead_letter}]\nmodels: [{estimator: sklearn.svm.LinearSVC}]"
    )

    spec = read_spec((PERSONAL + more + expected).encode(), is_json=False)
    without = read_spec((PERSONAL + more).replace(", personal: true", "").encode(), is_json=False)

    assert spec.personal_features == {"income", "mean_income", "ratio"}
    assert without.personal_features == frozenset()
