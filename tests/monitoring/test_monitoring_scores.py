"""Outcomes folded into scores: the sums equal a recount of the log, whatever was corrected or repeated."""

from __future__ import annotations

import math
from random import Random

import pytest

from everloop_monitoring.domain.loop import Fold, Work
from everloop_monitoring.domain.reports import scores
from everloop_schemas.envelope import Scalar, at
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import Shadow
from everloop_shared.arithmetic import mean

BINARY = LoopSpec.model_validate({"loop": "l", "task": "binary", "schema": {"a": {"type": "number"}}})
REGRESSION = LoopSpec.model_validate({"loop": "l", "task": "regression", "schema": {"a": {"type": "number"}}})


def outcome(
    id: str, prediction: Scalar, label: Scalar | None, *, correction: int = 0, version: str = "m@1",
    shadow: Scalar | None = None,
) -> OutcomeObservedData:  # fmt: skip
    return OutcomeObservedData(
        prediction_id=id,
        entity="default",
        label=label,
        correction=correction,
        labelled=at(1),
        predicted=at(0),
        features={"a": 1.0},
        prediction=prediction,
        version=version,
        role="champion",
        propensity=1.0,
        shadows=() if shadow is None else (Shadow(version="s@1", prediction=shadow),),
    )


def folded(spec: LoopSpec, log: list[OutcomeObservedData]) -> Fold:
    fold = Fold(spec, Work())
    for offset, data in enumerate(log):
        fold.take(data, offset)
    return fold


def test_what_was_served_stands_beside_no_change_and_majority() -> None:
    labels = [True, True, False, True]
    log = [outcome(str(i), True, label) for i, label in enumerate(labels)]

    fold = folded(BINARY, log)

    assert mean(fold.work.sums.served) == 1
    assert mean(fold.work.sums.no_change) == 3  # false was said first, then the label before
    assert mean(fold.work.sums.majority) == 2  # false first, then true: wrong on the third


def test_the_baselines_of_a_regression_are_the_label_before_and_the_mean_before() -> None:
    log = [outcome(str(i), 0.0, label) for i, label in enumerate([2.0, 4.0, 9.0])]

    work = folded(REGRESSION, log).work

    assert tuple(map(mean, work.sums)) == (15.0, 2 + 2 + 5, 2 + 2 + 6)


def test_losses_of_a_regression_stay_between_nothing_and_one() -> None:
    log = [outcome(str(i), 0.0, label) for i, label in enumerate([2.0, 4.0, 9.0, 0.0])]

    fold = folded(REGRESSION, log)

    assert [row["m@1"] for row in fold.losses] == [1.0, 1.0, 9 / (9 + 1), 0.0]


def test_a_word_heard_twice_counts_once() -> None:
    log = [outcome("a", True, False), outcome("a", True, False), outcome("b", True, True)]

    work = folded(BINARY, log).work

    assert (work.outcomes, work.scored, mean(work.sums.served)) == (2, 2, 1)


def test_a_correction_moves_the_scores_of_every_version_and_is_no_second_outcome() -> None:
    log = [outcome("a", True, True, shadow=False), outcome("a", True, False, shadow=False, correction=1)]

    fold = folded(BINARY, log)

    assert (fold.work.outcomes, mean(fold.work.sums.served)) == (1, 1)
    assert (fold.tallies["m@1"].predicted, mean(fold.tallies["m@1"].error)) == (1, 1)
    assert (fold.tallies["s@1"].predicted, mean(fold.tallies["s@1"].error)) == (1, 0)
    assert fold.work.rolling(regression=False).served == 0
    assert fold.offsets == [0]


def test_an_outcome_without_a_label_is_counted_and_scored_once_somebody_says_the_label() -> None:
    log = [outcome("a", True, None), outcome("b", True, True)]

    unsaid = folded(BINARY, log).work
    said = folded(BINARY, [*log, outcome("a", True, False, correction=1)]).work

    assert (unsaid.outcomes, unsaid.scored) == (2, 1)
    assert (said.outcomes, said.scored, mean(said.sums.served)) == (2, 2, 1)


def test_a_correction_does_not_reach_the_drift_watch() -> None:
    log = [outcome(str(i), True, True) for i in range(50)]
    wrong = [outcome(str(i), True, False, correction=1) for i in range(50)]

    plain, corrected = folded(BINARY, log).work, folded(BINARY, log + wrong).work

    assert corrected.watch == plain.watch
    assert mean(corrected.sums.served) == 50


def test_what_the_baseline_served_is_not_watched_for_drift() -> None:
    rng = Random(0)
    log = [outcome(str(i), rng.random() < 0.5, True, version="0") for i in range(200)]

    assert folded(BINARY, log).work.watch.seen == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_sums_equal_a_recount_where_each_outcome_counts_with_its_last_label(seed: int) -> None:
    rng = Random(seed)
    log: list[OutcomeObservedData] = []
    said: dict[int, int] = {}
    for i in range(400):
        log.append(outcome(str(i), rng.random() < 0.5, rng.choice([True, False, None]), shadow=rng.random() < 0.5))
        if rng.random() < 0.3:
            j = rng.randrange(i + 1)
            said[j] = said.get(j, 0) + 1
            first = next(d for d in log if d.prediction_id == str(j))
            log.append(first.model_copy(update={"label": rng.choice([True, False, None]), "correction": said[j]}))
        if rng.random() < 0.1:
            log.append(rng.choice(log))

    fold = folded(BINARY, log)

    last: dict[str, OutcomeObservedData] = {}
    for data in log:
        if data.prediction_id not in last or data.correction > last[data.prediction_id].correction:
            last[data.prediction_id] = data
    labelled = [d for d in last.values() if d.label is not None]
    assert (fold.work.outcomes, fold.work.scored) == (len(last), len(labelled))
    assert mean(fold.work.sums.served) == sum(d.prediction != d.label for d in labelled)
    assert mean(fold.tallies["s@1"].error) == sum(d.shadows[0].prediction != d.label for d in labelled)
    assert fold.work.baselines.n == len(labelled)
    counts = dict(fold.work.baselines.classes)
    assert counts.get(True, 0) == sum(d.label is True for d in labelled)


HUGE = 1.7976931348623157e308


def test_labels_at_the_edge_of_a_double_leave_every_score_finite() -> None:
    labels = [5.0, HUGE, -HUGE, HUGE, -HUGE, 10**400, 5.0]
    log = [outcome(str(i), HUGE if i % 2 else 0.0, label, shadow=-HUGE) for i, label in enumerate(labels)]

    fold = folded(REGRESSION, log)

    told = scores(fold)
    assert all(math.isfinite(x) for x in (told.served, told.rolling, told.no_change, told.majority))
    assert all(0.0 <= loss <= 1.0 for row in fold.losses for loss in row.values())


def test_a_huge_label_that_is_corrected_leaves_nothing_behind() -> None:
    usual = [outcome(str(i), 0.25, i / 7) for i in range(100)]
    slip = [outcome("slip", 0.25, HUGE, shadow=0.5), outcome("slip", 0.25, 1.0, correction=1, shadow=0.5)]

    slipped = folded(REGRESSION, [*usual[:50], slip[0], *usual[50:], slip[1]])

    right = folded(REGRESSION, [*usual, outcome("slip", 0.25, 1.0, shadow=0.5)])
    assert slipped.work.sums.served == right.work.sums.served
    assert slipped.work.baselines.total == right.work.baselines.total
    assert {v: (t.error, t.served_error) for v, t in slipped.tallies.items()} == {
        v: (t.error, t.served_error) for v, t in right.tallies.items()
    }


def test_a_huge_label_does_not_hide_what_later_predictions_cost() -> None:
    log = [outcome(str(i), 0.0, float(i % 10)) for i in range(300)]

    plain = folded(REGRESSION, log)
    struck = folded(REGRESSION, [*log[:40], outcome("slip", 0.0, HUGE), *log[40:]])

    assert struck.losses[-1]["m@1"] == pytest.approx(plain.losses[-1]["m@1"], rel=0.1)
