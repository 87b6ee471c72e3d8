"""The evaluation scores served predictions and baselines by the metric that the spec names."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import TypeAdapter
from tests.builders.events import outcome_data
from tests.builders.loops import loop_spec

from everloop_metrics import metric_input, score_of
from everloop_monitoring.domain.evaluation import BatchEvaluation
from everloop_monitoring.domain.events import build_scores
from everloop_monitoring.domain.state import CountedOutcome, EvaluationState
from everloop_monitoring.domain.status import score_by_metric
from everloop_schemas.envelope import Scalar
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.loop import METRICS, LoopSpec
from everloop_schemas.serving import Shadow

BOTH = [(task, metric) for task, metrics in METRICS.items() for metric in metrics]


def loop(task: str, metric: str) -> LoopSpec:
    return loop_spec(task=task, metric=metric)


def outcome(
    n: int, label: Scalar | None, prediction: Scalar, chances: Any = None, **fields: Any
) -> OutcomeObservedData:
    return outcome_data(
        str(n), label, **{"prediction": prediction, "probabilities": chances, "version": "m@1", **fields}
    )


def log_of(task: str, n: int = 900) -> list[OutcomeObservedData]:
    rng, log = Random(4), []
    for i in range(n):
        p = rng.random()
        if task == "regression":
            label: Scalar = 100 + rng.gauss(0, 9)
            log.append(outcome(i, label, float(label) + rng.gauss(0, 3)))
        elif task == "binary":
            log.append(outcome(i, rng.random() < p, p > 0.5, {"true": p, "false": 1 - p}))
        else:
            label = "a" if rng.random() < p else rng.choice("bc")
            chances = {"a": p, "b": (1 - p) / 2, "c": (1 - p) / 2}
            log.append(outcome(i, label, max(chances, key=chances.__getitem__), chances))
    return log


def evaluate_log(
    spec: LoopSpec, log: list[OutcomeObservedData], state: EvaluationState | None = None, start: int = 0
) -> BatchEvaluation:
    evaluation = BatchEvaluation(spec, state or EvaluationState())
    for offset, data in enumerate(log, start):
        evaluation.add(data, offset)
    return evaluation


@pytest.mark.parametrize(("task", "metric"), BOTH)
def test_the_evaluation_is_by_the_metric_of_the_spec(task: str, metric: str) -> None:
    log = log_of(task)
    inputs = [metric_input(metric, o.label, o.prediction, o.probabilities) for o in log if o.label is not None]

    scores = build_scores(evaluate_log(loop(task, metric), log))

    assert scores.metric == metric
    assert scores.served == pytest.approx(score_of(metric, inputs))
    assert scores.rolling == pytest.approx(score_of(metric, inputs[-500:]))
    assert scores.undefined == ()


@pytest.mark.parametrize(("task", "metric"), BOTH)
def test_corrected_labels_count_as_if_they_had_been_there_at_once(task: str, metric: str) -> None:
    log = log_of(task, 300)
    others: dict[str, Scalar] = {"binary": True, "multiclass": "b", "regression": 1e9}
    spec, other = loop(task, metric), others[task]
    evaluation = evaluate_log(
        spec, [*log[:200], outcome(200, other, log[200].prediction, log[200].probabilities), *log[201:]]
    )

    evaluation.add(replace(log[200], correction=1), 300)

    right, corrected = score_by_metric(spec, evaluate_log(spec, log).state), score_by_metric(spec, evaluation.state)
    assert corrected["served"] == right["served"]
    assert corrected["rolling"] == pytest.approx(right["rolling"])


def test_a_withdrawn_label_does_not_count() -> None:
    log, spec = log_of("binary", 300), loop("binary", "roc_auc")
    evaluation = evaluate_log(spec, [*log, outcome(300, True, False, {"true": 0.1, "false": 0.9})])

    evaluation.add(outcome(300, None, False, {"true": 0.1, "false": 0.9}, correction=1), 301)

    assert score_by_metric(spec, evaluation.state) == score_by_metric(spec, evaluate_log(spec, log).state)


def test_the_majority_predicts_with_its_shares_as_probabilities_and_no_change_with_certainty() -> None:
    labels = [True, True, False, True]
    spec = loop("binary", "log_loss")

    scores = score_by_metric(spec, evaluate_log(spec, [outcome(i, y, y) for i, y in enumerate(labels)]).state)

    chances = [(True, 0.0), (True, 1.0), (False, 0.0), (True, 2 / 3)]
    expected = score_of("log_loss", [metric_input("log_loss", y, y, None)._replace(probability=p) for y, p in chances])
    assert scores["majority"] == pytest.approx(expected)
    assert scores["no_change"] == pytest.approx(3 * 34.538776 / 4, rel=1e-4)


@pytest.mark.parametrize("metric", ["f1", "roc_auc"])
def test_where_only_one_class_ever_comes_the_metric_is_undefined_and_marked_so(metric: str) -> None:
    log = [outcome(i, False, False, {"true": 0.1, "false": 0.9}) for i in range(600)]

    scores = build_scores(evaluate_log(loop("binary", metric), log))

    assert scores.undefined == ("served", "rolling", "no_change", "majority")
    assert (scores.served, scores.rolling) == (0.0, 0.0)


def test_few_positives_are_not_hidden_by_accuracy() -> None:
    log = [outcome(i, i % 200 == 0, False, {"true": 0.01, "false": 0.99}) for i in range(1000)]

    scores = build_scores(evaluate_log(loop("binary", "f1"), log))

    assert (scores.metric, scores.served, scores.rolling) == ("f1", 0.0, 0.0)
    assert "served" not in scores.undefined


def test_another_metric_counts_from_where_the_spec_names_it() -> None:
    log, spec = log_of("binary"), loop("binary", "log_loss")
    state = evaluate_log(loop("binary", "f1"), log[:400]).state

    evaluation = evaluate_log(spec, log[400:], state, 400)

    inputs = [
        metric_input("log_loss", o.label, o.prediction, o.probabilities) for o in log[400:] if o.label is not None
    ]
    assert score_by_metric(spec, evaluation.state)["served"] == pytest.approx(score_of("log_loss", inputs))


def test_the_losses_of_a_loop_with_log_loss_are_those_of_training() -> None:
    shadow = Shadow(version="s@1", prediction=False, probabilities={"true": 0.4, "false": 0.6})
    log = [outcome(0, True, True, {"true": 0.7, "false": 0.3}, shadows=(shadow,))]

    [losses] = evaluate_log(loop("binary", "log_loss"), log).unpublished.losses

    assert losses == {
        "m": pytest.approx(-math.log(0.7) / math.log(1000)),
        "s": pytest.approx(-math.log(0.4) / math.log(1000)),
    }


@pytest.mark.parametrize(("task", "metric"), BOTH)
def test_the_curves_are_by_the_metric_of_the_spec(task: str, metric: str) -> None:
    log = log_of(task)
    inputs = [metric_input(metric, o.label, o.prediction, o.probabilities) for o in log if o.label is not None]

    points = evaluate_log(loop(task, metric), log).points

    assert [point.outcomes for point in points] == list(range(50, 901, 50))
    assert {point.metric for point in points} == {metric}
    assert points[-1].scores.served == pytest.approx(score_of(metric, inputs[-500:]))
    assert points[-1].scores.no_change != points[-1].scores.served


def test_the_curves_have_no_point_where_the_metric_is_undefined() -> None:
    log = [outcome(i, False, False, {"true": 0.1, "false": 0.9}) for i in range(300)]
    log += [outcome(i, i % 2 == 0, True, {"true": 0.9, "false": 0.1}) for i in range(300, 400)]

    points = evaluate_log(loop("binary", "precision"), log).points

    assert [(point.outcomes, point.scores.majority) for point in points] == [(350, 0.0), (400, 0.0)]


def test_the_losses_of_a_loop_with_f1_cost_what_f1_says() -> None:
    log = [outcome(i, i % 2 == 0, i % 4 == 0) for i in range(400)]

    losses = [row["m"] for row in evaluate_log(loop("binary", "f1"), log).unpublished.losses]

    assert losses[-3:] == [0.0, pytest.approx(1 - 1 / 3, abs=0.01), 0.0]


def test_the_state_survives_a_round_trip_through_json() -> None:
    for task, metric in BOTH:
        evaluation = evaluate_log(loop(task, metric), log_of(task, 100))
        for kept, kind in ((evaluation.state, EvaluationState), (evaluation.counted["5"], CountedOutcome)):
            adapter = TypeAdapter[Any](kind)
            assert adapter.validate_json(adapter.dump_json(kept)) == kept
    assert TypeAdapter(CountedOutcome).validate_json(b"[1, true, 0, false, true]").chance is None
