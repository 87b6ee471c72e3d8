"""What the spec names as its metric is what the evaluation says, of what was served and of the baselines."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from pydantic import TypeAdapter

from everloop_metrics import heard, score_of
from everloop_monitoring.domain.loop import Fold, Known, Work
from everloop_monitoring.domain.reports import scores
from everloop_monitoring.domain.status import metric_scores
from everloop_schemas.envelope import Scalar, at
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.loop import METRICS, LoopSpec
from everloop_schemas.serving import Shadow

BOTH = [(task, metric) for task, metrics in METRICS.items() for metric in metrics]


def loop(task: str, metric: str) -> LoopSpec:
    return LoopSpec.model_validate({"loop": "l", "task": task, "metric": metric, "schema": {"a": {"type": "number"}}})


def outcome(n: int, label: Scalar | None, said: Scalar, chances: Any = None, **more: Any) -> OutcomeObservedData:
    return OutcomeObservedData(
        prediction_id=str(n),
        entity="default",
        label=label,
        labelled=at(1),
        predicted=at(0),
        features={"a": 1.0},
        prediction=said,
        probabilities=chances,
        version="m@1",
        role="champion",
        propensity=1.0,
        **more,
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


def folded(spec: LoopSpec, log: list[OutcomeObservedData], work: Work | None = None, start: int = 0) -> Fold:
    fold = Fold(spec, work or Work())
    for offset, data in enumerate(log, start):
        fold.take(data, offset)
    return fold


@pytest.mark.parametrize(("task", "metric"), BOTH)
def test_the_evaluation_is_by_the_metric_of_the_spec(task: str, metric: str) -> None:
    log = log_of(task)
    said = [heard(metric, o.label, o.prediction, o.probabilities) for o in log if o.label is not None]

    told = scores(folded(loop(task, metric), log))

    assert told.metric == metric
    assert told.served == pytest.approx(score_of(metric, said))
    assert told.rolling == pytest.approx(score_of(metric, said[-500:]))
    assert told.undefined == ()


@pytest.mark.parametrize(("task", "metric"), BOTH)
def test_corrected_labels_count_as_if_they_had_been_there_at_once(task: str, metric: str) -> None:
    log = log_of(task, 300)
    others: dict[str, Scalar] = {"binary": True, "multiclass": "b", "regression": 1e9}
    spec, other = loop(task, metric), others[task]
    fold = folded(spec, [*log[:200], outcome(200, other, log[200].prediction, log[200].probabilities), *log[201:]])

    fold.take(log[200].model_copy(update={"correction": 1}), 300)

    right, corrected = metric_scores(spec, folded(spec, log).work), metric_scores(spec, fold.work)
    assert corrected["served"] == right["served"]
    assert corrected["rolling"] == pytest.approx(right["rolling"])


def test_a_label_taken_back_does_not_count() -> None:
    log, spec = log_of("binary", 300), loop("binary", "roc_auc")
    fold = folded(spec, [*log, outcome(300, True, False, {"true": 0.1, "false": 0.9})])

    fold.take(outcome(300, None, False, {"true": 0.1, "false": 0.9}, correction=1), 301)

    assert metric_scores(spec, fold.work) == metric_scores(spec, folded(spec, log).work)


def test_the_majority_is_judged_by_its_shares_and_no_change_as_sure() -> None:
    labels = [True, True, False, True]
    spec = loop("binary", "log_loss")

    told = metric_scores(spec, folded(spec, [outcome(i, y, y) for i, y in enumerate(labels)]).work)

    chances = [(True, 0.0), (True, 1.0), (False, 0.0), (True, 2 / 3)]
    expected = score_of("log_loss", [heard("log_loss", y, y, None)._replace(chance=p) for y, p in chances])
    assert told["majority"] == pytest.approx(expected)
    assert told["no_change"] == pytest.approx(3 * 34.538776 / 4, rel=1e-4)


@pytest.mark.parametrize("metric", ["f1", "roc_auc"])
def test_where_only_one_class_ever_comes_the_metric_is_undefined_and_says_so(metric: str) -> None:
    log = [outcome(i, False, False, {"true": 0.1, "false": 0.9}) for i in range(600)]

    told = scores(folded(loop("binary", metric), log))

    assert told.undefined == ("served", "rolling", "no_change", "majority")
    assert (told.served, told.rolling) == (0.0, 0.0)


def test_few_positives_are_not_hidden_by_accuracy() -> None:
    log = [outcome(i, i % 200 == 0, False, {"true": 0.01, "false": 0.99}) for i in range(1000)]

    told = scores(folded(loop("binary", "f1"), log))

    assert (told.metric, told.served, told.rolling) == ("f1", 0.0, 0.0)
    assert "served" not in told.undefined


def test_another_metric_counts_from_where_the_spec_names_it() -> None:
    log, spec = log_of("binary"), loop("binary", "log_loss")
    work = folded(loop("binary", "f1"), log[:400]).work

    fold = folded(spec, log[400:], work, 400)

    said = [heard("log_loss", o.label, o.prediction, o.probabilities) for o in log[400:] if o.label is not None]
    assert metric_scores(spec, fold.work)["served"] == pytest.approx(score_of("log_loss", said))


def test_the_losses_of_a_loop_with_log_loss_are_those_that_training_tells_of_its_lines() -> None:
    shadow = Shadow(version="s@1", prediction=False, probabilities={"true": 0.4, "false": 0.6})
    log = [outcome(0, True, True, {"true": 0.7, "false": 0.3}, shadows=(shadow,))]

    [losses] = folded(loop("binary", "log_loss"), log).losses

    assert losses == {"m@1": pytest.approx(0.09), "s@1": pytest.approx(0.36)}


def test_the_state_survives_being_written_down() -> None:
    for task, metric in BOTH:
        fold = folded(loop(task, metric), log_of(task, 100))
        for kept, kind in ((fold.work, Work), (fold.known["5"], Known)):
            adapter = TypeAdapter[Any](kind)
            assert adapter.validate_json(adapter.dump_json(kept)) == kept
    assert TypeAdapter(Known).validate_json(b"[1, true, 0, false, true]").chance is None
