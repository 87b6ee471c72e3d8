"""Evaluations of outcomes: the sums equal a recount of the log, whatever was corrected or duplicated."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace
from tests.builders.events import outcome_data
from tests.builders.loops import loop_spec

from everloop_monitoring.domain.evaluation import BatchEvaluation
from everloop_monitoring.domain.events import build_scores
from everloop_monitoring.domain.state import EvaluationState
from everloop_schemas.envelope import Scalar
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import Shadow
from everloop_shared.arithmetic import mean

BINARY, REGRESSION = loop_spec(), loop_spec(task="regression")


def outcome(
    id: str, prediction: Scalar, label: Scalar | None, *, shadow: Scalar | None = None, **fields: Any
) -> OutcomeObservedData:
    """An outcome of version `m@1`, with the prediction of version `s@1` in shadow."""
    shadows = () if shadow is None else (Shadow(version="s@1", prediction=shadow),)
    return outcome_data(id, label, **{"prediction": prediction, "version": "m@1", "shadows": shadows, **fields})


def evaluate_log(spec: LoopSpec, log: list[OutcomeObservedData]) -> BatchEvaluation:
    evaluation = BatchEvaluation(spec, EvaluationState())
    for offset, data in enumerate(log):
        evaluation.add(data, offset)
    return evaluation


def test_served_predictions_are_compared_with_no_change_and_majority() -> None:
    labels = [True, True, False, True]
    log = [outcome(str(i), True, label) for i, label in enumerate(labels)]

    evaluation = evaluate_log(BINARY, log)

    assert mean(evaluation.state.sums.served) == 1
    assert (
        mean(evaluation.state.sums.no_change) == 3
    )  # the first prediction is false, the next ones are the previous label
    assert (
        mean(evaluation.state.sums.majority) == 2
    )  # the first prediction is false, the next ones are true: the third is wrong


def test_the_baselines_of_a_regression_are_the_label_before_and_the_mean_before() -> None:
    log = [outcome(str(i), 0.0, label) for i, label in enumerate([2.0, 4.0, 9.0])]

    state = evaluate_log(REGRESSION, log).state

    assert tuple(map(mean, state.sums)) == (15.0, 2 + 2 + 5, 2 + 2 + 6)


def test_losses_of_a_regression_stay_between_zero_and_one() -> None:
    log = [outcome(str(i), 0.0, label) for i, label in enumerate([2.0, 4.0, 3.0, 0.0])]

    evaluation = evaluate_log(REGRESSION, log)

    assert [row["m"] for row in evaluation.unpublished.losses] == [1.0, 1.0, 3 / 6, 0.0]


def test_a_duplicate_counts_once() -> None:
    log = [outcome("a", True, False), outcome("a", True, False), outcome("b", True, True)]

    state = evaluate_log(BINARY, log).state

    assert (state.outcomes, state.scored, mean(state.sums.served)) == (2, 2, 1)


def test_a_correction_moves_the_scores_of_every_version_and_is_no_second_outcome() -> None:
    log = [outcome("a", True, True, shadow=False), outcome("a", True, False, shadow=False, correction=1)]

    evaluation = evaluate_log(BINARY, log)

    assert (evaluation.state.outcomes, mean(evaluation.state.sums.served)) == (1, 1)
    assert (evaluation.tallies["m"].predicted, mean(evaluation.tallies["m"].error)) == (1, 1)
    assert (evaluation.tallies["s"].predicted, mean(evaluation.tallies["s"].error)) == (1, 0)
    assert evaluation.state.rolling_scores(is_regression=False).served == 0
    assert evaluation.unpublished.offsets == [0]


def test_an_outcome_without_a_label_is_counted_and_scored_once_somebody_says_the_label() -> None:
    log = [outcome("a", True, None), outcome("b", True, True)]

    without = evaluate_log(BINARY, log).state
    corrected = evaluate_log(BINARY, [*log, outcome("a", True, False, correction=1)]).state

    assert (without.outcomes, without.scored) == (2, 1)
    assert (corrected.outcomes, corrected.scored, mean(corrected.sums.served)) == (2, 2, 1)


def test_a_correction_does_not_reach_the_drift_detector() -> None:
    log = [outcome(str(i), True, True) for i in range(50)]
    wrong = [outcome(str(i), True, False, correction=1) for i in range(50)]

    plain, corrected = evaluate_log(BINARY, log).state, evaluate_log(BINARY, log + wrong).state

    assert corrected.drift_detector == plain.drift_detector
    assert mean(corrected.sums.served) == 50


def test_what_the_baseline_served_is_not_watched_for_drift() -> None:
    rng = Random(0)
    log = [outcome(str(i), rng.random() < 0.5, True, version="0") for i in range(200)]

    assert evaluate_log(BINARY, log).state.drift_detector.seen == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_sums_equal_a_recount_where_each_outcome_counts_with_its_last_label(seed: int) -> None:
    rng = Random(seed)
    log: list[OutcomeObservedData] = []
    corrections: dict[int, int] = {}
    for i in range(400):
        log.append(outcome(str(i), rng.random() < 0.5, rng.choice([True, False, None]), shadow=rng.random() < 0.5))
        if rng.random() < 0.3:
            j = rng.randrange(i + 1)
            corrections[j] = corrections.get(j, 0) + 1
            first = next(d for d in log if d.prediction_id == str(j))
            log.append(replace(first, label=rng.choice([True, False, None]), correction=corrections[j]))
        if rng.random() < 0.1:
            log.append(rng.choice(log))

    evaluation = evaluate_log(BINARY, log)

    last: dict[str, OutcomeObservedData] = {}
    for data in log:
        if data.prediction_id not in last or data.correction > last[data.prediction_id].correction:
            last[data.prediction_id] = data
    labelled = [d for d in last.values() if d.label is not None]
    assert (evaluation.state.outcomes, evaluation.state.scored) == (len(last), len(labelled))
    assert mean(evaluation.state.sums.served) == sum(d.prediction != d.label for d in labelled)
    assert mean(evaluation.tallies["s"].error) == sum(d.shadows[0].prediction != d.label for d in labelled)
    assert evaluation.state.baselines.n == len(labelled)
    counts = dict(evaluation.state.baselines.classes)
    assert counts.get(True, 0) == sum(d.label is True for d in labelled)


HUGE = 1.7976931348623157e308


def test_labels_at_the_edge_of_a_double_leave_every_score_finite() -> None:
    labels = [5.0, HUGE, -HUGE, HUGE, -HUGE, 10**400, 5.0]
    log = [outcome(str(i), HUGE if i % 2 else 0.0, label, shadow=-HUGE) for i, label in enumerate(labels)]

    evaluation = evaluate_log(REGRESSION, log)

    scores = build_scores(evaluation)
    assert all(math.isfinite(x) for x in (scores.served, scores.rolling, scores.no_change, scores.majority))
    assert all(0.0 <= loss <= 1.0 for row in evaluation.unpublished.losses for loss in row.values())


def test_a_huge_label_that_is_corrected_leaves_nothing_behind() -> None:
    usual = [outcome(str(i), 0.25, i / 7) for i in range(100)]
    slip = [outcome("slip", 0.25, HUGE, shadow=0.5), outcome("slip", 0.25, 1.0, correction=1, shadow=0.5)]

    slipped = evaluate_log(REGRESSION, [*usual[:50], slip[0], *usual[50:], slip[1]])

    right = evaluate_log(REGRESSION, [*usual, outcome("slip", 0.25, 1.0, shadow=0.5)])
    assert slipped.state.sums.served == right.state.sums.served
    assert slipped.state.baselines.total == right.state.baselines.total
    assert {v: (t.error, t.served_error) for v, t in slipped.tallies.items()} == {
        v: (t.error, t.served_error) for v, t in right.tallies.items()
    }


def test_a_huge_label_does_not_hide_what_later_predictions_cost() -> None:
    log = [outcome(str(i), 0.0, float(i % 10)) for i in range(300)]

    plain = evaluate_log(REGRESSION, log)
    struck = evaluate_log(REGRESSION, [*log[:40], outcome("slip", 0.0, HUGE), *log[40:]])

    assert struck.unpublished.losses[-1]["m"] == pytest.approx(plain.unpublished.losses[-1]["m"], rel=0.1)


def test_versions_of_one_line_add_up_in_its_row_and_the_latest_names_it() -> None:
    log = [outcome_data(str(n), True, prediction=True, version=f"m@{offset}") for n, offset in enumerate((9, 10, 2))]

    evaluation = evaluate_log(BINARY, log)

    [(line, tally)] = evaluation.tallies.items()
    assert (line, tally.version, tally.predicted, tally.served) == ("m", "m@10", 3, 3)
    assert [list(row) for row in evaluation.unpublished.losses] == [["m"]] * 3
    assert len(evaluation.state.by_line["m"][1]) == 3


def test_where_two_versions_of_a_line_predicted_the_served_one_counts() -> None:
    shadow = Shadow(version="m@2", prediction=True)
    log = [outcome_data("a", True, prediction=False, version="m@1", shadows=(shadow,))]

    evaluation = evaluate_log(BINARY, log)

    assert evaluation.unpublished.losses == [{"m": 1.0}]
    assert (evaluation.tallies["m"].predicted, evaluation.tallies["m"].served) == (2, 1)
