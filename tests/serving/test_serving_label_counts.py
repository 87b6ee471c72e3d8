"""Version 0 and the label counts behind it: corrections, feedback, huge labels, limits."""

from __future__ import annotations

import json
import math
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders.events import outcome_data

from everloop_schemas.envelope import Scalar
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.loop import LoopSpec
from everloop_serving.domain.label_counts import BaselineVersion, LabelCounts, LabelCountsByLoop

SPEC = LoopSpec.model_validate({"loop": "market", "task": "binary", "schema": {"price": {"type": "number"}}})
NUMBERS = LoopSpec.model_validate({"loop": "size", "task": "regression", "schema": {"x": {"type": "number"}}})
HUGE = 1.7976931348623157e308


def outcome(
    prediction_id: str, label: Any, correction: int = 0, kind: str = "label", source: str | None = None
) -> OutcomeObservedData:
    """The part of an outcome that version 0 needs."""
    return outcome_data(prediction_id, label, correction=correction, kind=kind, source=source)


def test_feedback_beyond_its_sources_share_does_not_move_version_0() -> None:
    labels = LabelCounts()
    zero = BaselineVersion(SPEC, labels)
    for i in range(400):
        labels.add(outcome(f"label-{i}", True))

    for i in range(2_000):
        labels.add(outcome(f"feedback-{i}", False, kind="feedback"))
    counted = dict(labels.classes)
    again = LabelCounts()
    again.restore(json.loads(json.dumps(labels.state())))
    again.add(outcome("feedback-more", False, kind="feedback"))
    for i in range(200):
        again.add(outcome(f"evicted-{i}", True, 1))
    again.add(outcome("feedback-after", False, kind="feedback"))
    labels.add(outcome("feedback-1999", False, 1))

    assert counted == {True: 400, False: 20}
    assert again.classes == counted
    assert labels.classes == {True: 400, False: 21}
    assert zero.predict({}).value is True


def test_every_prediction_counts_once_with_its_latest_label() -> None:
    labels = LabelCounts()

    for prediction_id, label, correction in [
        ("a", True, 0), ("a", True, 0), ("b", None, 0), ("b", False, 1), ("a", False, 1), ("unknown", True, 2)
    ]:  # fmt: skip
        labels.add(outcome(prediction_id, label, correction))

    assert (labels.count, labels.classes) == (2, {False: 2})


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-1e3, 1e3)), max_size=40))
def test_a_running_mean_with_corrections_is_the_mean_of_the_latest_labels(corrections: list[tuple[int, float]]) -> None:
    labels, latest = LabelCounts(), dict[int, float]()

    for subject, value in corrections:
        labels.add(outcome(str(subject), value, int(subject in latest)))
        latest[subject] = value

    assert labels.count == len(latest)
    assert labels.mean == pytest.approx(fmean(latest.values()) if latest else 0.0)


def test_label_counts_are_restored_as_saved_and_a_reset_reaches_version_0() -> None:
    book, again = LabelCountsByLoop(), LabelCountsByLoop()
    book.of("market").add(outcome("a", True))
    book.offsets[2] = 7
    zero = BaselineVersion(SPEC, again.of("market"))

    again.restore(book.state())
    restored = zero.predict({})
    again.reset()

    assert again.offsets == {}
    assert (restored.value, zero.predict({}).value) == (True, False)


def test_version_zero_of_a_regression_is_the_mean() -> None:
    spec = LoopSpec.model_validate({"loop": "m", "task": "regression", "schema": {"price": {"type": "number"}}})
    labels = LabelCounts()
    zero = BaselineVersion(spec, labels)
    before = zero.predict({})

    labels.add(outcome("a", 1.0))
    labels.add(outcome("b", 2))

    assert (before.value, zero.predict({}).value) == (0.0, 1.5)


def test_labels_at_the_edge_of_a_double_leave_version_0_finite() -> None:
    labels = LabelCounts()

    for i, label in enumerate([5.0, HUGE, -HUGE, HUGE, -HUGE, 10**400]):
        labels.add(outcome(f"p{i}", label))
        assert math.isfinite(float(BaselineVersion(NUMBERS, labels).predict({}).value))


def test_a_huge_label_that_is_corrected_leaves_the_mean_as_if_it_had_never_been() -> None:
    labels = LabelCounts()
    for i, label in enumerate([0.1, HUGE, 0.3]):
        labels.add(outcome(f"p{i}", label))

    labels.add(outcome("p1", 0.2, 1))

    assert labels.mean == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("label", "unknown"),
    [({}, "<unknown>"), ({"type": "integer"}, -(2**63)), ({"classes": ["a", "b"]}, "a"), ({"type": "boolean"}, False)],
    ids=["text", "integers", "classes", "booleans"],
)
def test_a_loop_that_names_no_classes_predicts_none_until_it_knows_one(label: dict[str, Any], unknown: Scalar) -> None:
    whole = {"loop": "l", "task": "multiclass", "schema": {"x": {"type": "number"}}, "label": label}
    spec, labels = LoopSpec.model_validate(whole), LabelCounts()

    before = BaselineVersion(spec, labels).predict({})
    labels.add(outcome("p", "b"))
    after = BaselineVersion(spec, labels).predict({})

    assert (before.value, before.probabilities) == (unknown, None)
    assert after.value == "b"


def test_labels_of_a_loop_stay_within_their_share_of_the_bytes() -> None:
    book = LabelCountsByLoop(max_bytes=1_000_000)

    for n in range(3_000):
        for loop in ("one", "two", "three", "four"):
            book.add(loop, 1, outcome(f"{loop}-{n}", f"{n % 2_000}" * 150))
        assert book.bytes <= 1_000_000

    assert all(book.of(loop).count == 3_000 for loop in ("one", "two", "three", "four"))
    assert sum(map(len, (str(label) for label in book.of("one").classes))) <= 1_000_000 // 16
