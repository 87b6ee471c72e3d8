"""What starts the runs of a loop: alerts, feedback, labels, schedules and the metric floor."""

from __future__ import annotations

import pickle
from datetime import timedelta

import pytest
from tests.training.training_harness import (
    START,
    alert,
    dependencies,
    event,
    feed,
    losses,
    make_learner,
    of,
    spec,
    state,
)

from everloop_learning.outcome import Outcome
from everloop_schemas.training import ChallengeUpdated, RunFinished, RunRequested
from everloop_training.worker.learners import run_starter
from everloop_training.worker.learners.loop_learner import LoopLearner


def test_a_drift_starts_a_fresh_line_at_its_change_point_whose_losses_are_on_unseen_outcomes_only() -> None:
    learner = make_learner()
    feed(learner, 0, 600)
    feed(learner, 600, 700, flipped=True)
    learner.take_events()

    request = learner.drift_runs.on_drift(alert(offset=650, change_point=601))
    feed(learner, 700, 800, flipped=True)

    assert request is not None
    assert (request.data.start_offset, request.data.requested_offset) == (601, 699)
    assert request.causationid == "alert"
    assert request.correlationid == request.data.run
    seen = losses(learner.take_events())
    fresh = seen[request.data.line]
    assert sorted(fresh) == list(range(700, 800))
    assert sum(fresh.values()) + 20 < sum(seen["logistic-regression-0"][i] for i in range(700, 800))


def test_an_alert_in_the_cooldown_waits_for_its_end_and_is_then_one_run() -> None:
    learner = make_learner()
    feed(learner, 0, 700)
    learner.drift_runs.on_drift(alert(650, 601))
    feed(learner, 700, 1000)

    assert learner.drift_runs.on_drift(alert(990, 950, "another")) is None
    assert learner.drift_runs.on_drift(alert(990, 950, "another")) is None
    learner.take_events()
    feed(learner, 1000, 1300)

    [request] = [e for e in learner.take_events() if isinstance(e, RunRequested)]
    assert (request.causationid, request.data.start_offset) == ("another", 950)
    assert request.data.requested_offset >= 1199


def test_a_drift_before_labels_is_answered_like_another_where_the_spec_asks() -> None:
    asked = {"retrain": {"on_drift": False, "on_data_drift": True, "cooldown": 500}, "monitor": {"drift": "all"}}
    learner, other = make_learner(state(of=spec(**asked))), make_learner()
    feed(learner, 0, 700)
    feed(other, 0, 700)

    request = learner.drift_runs.on_drift(alert(650, 601, kind="data", of="a"))
    error = learner.drift_runs.on_drift(alert(660, 640, "error"))
    feed(learner, 700, 1000)
    waits = learner.drift_runs.on_drift(alert(990, 950, "another", kind="label", of="label"))
    learner.take_events()
    feed(learner, 1000, 1300)
    later = of(RunRequested, learner.take_events())

    assert request is not None
    assert (request.data.trigger, request.data.start_offset) == ("drift", 601)
    assert request.data.reason.startswith("data of a, drift")
    assert (error, waits) == (None, None)
    assert [(run.causationid, run.data.start_offset) for run in later] == [("another", 950)]
    assert other.drift_runs.on_drift(alert(650, 601, kind="data", of="a")) is None


def test_a_drift_that_is_not_answered_does_not_displace_one_that_waits() -> None:
    learner = make_learner()
    feed(learner, 0, 700)
    learner.drift_runs.on_drift(alert(650, 601))
    feed(learner, 700, 1000)
    learner.drift_runs.on_drift(alert(990, 950, "another"))

    learner.drift_runs.on_drift(alert(995, 960, "of a feature", kind="data", of="a"))
    learner.drift_runs.replay(alert(996, 970, "of another", kind="data", of="b"))
    learner.take_events()
    feed(learner, 1000, 1300)

    [request] = of(RunRequested, learner.take_events())
    assert request.causationid == "another"


def test_an_alert_that_waits_in_a_snapshot_but_was_answered_since_is_not_answered_again() -> None:
    learner = make_learner()
    feed(learner, 0, 700)
    learner.drift_runs.on_drift(alert(650, 601))
    feed(learner, 700, 1000)
    learner.drift_runs.on_drift(alert(990, 950, "another"))
    learner.take_events()
    snapshot = pickle.dumps(learner)
    feed(learner, 1000, 1300)
    answered = of(RunRequested, learner.take_events())

    after: LoopLearner = pickle.loads(snapshot)
    after.attach(dependencies())
    after.runs.adopt(answered)
    feed(after, 1000, 2000)

    assert [r.causationid for r in answered] == ["another"]
    assert of(RunRequested, after.take_events()) == []


def test_a_new_worker_is_sent_the_alerts_and_the_one_that_waited_waits_again() -> None:
    """All alerts are replayed; the log holds the runs of those that were answered."""
    learner = make_learner()
    feed(learner, 0, 700)
    first = learner.drift_runs.on_drift(alert(650, 601))
    assert first is not None
    consumed = [alert(600, 590, "never answered"), alert(650, 601), alert(800, 790, "older"), alert(990, 950, "waits")]

    after = make_learner()
    after.runs.adopt([first])
    feed(after, 0, 1000)
    after.take_events()
    for each in consumed:
        after.drift_runs.replay(each)
    feed(after, 1000, 1300)

    [request] = of(RunRequested, after.take_events())
    assert request.causationid == "waits"


def test_an_alert_that_has_its_run_answers_those_before_it() -> None:
    learner = make_learner()
    feed(learner, 0, 700)
    first = learner.drift_runs.on_drift(alert(650, 601))

    learner.drift_runs.replay(alert(640, 600, "older"))
    learner.drift_runs.replay(alert(650, 601))

    assert first is not None
    assert learner.progress.waiting_alert is None


def test_a_newer_fresh_line_replaces_an_unpromoted_older_one() -> None:
    learner = make_learner()
    feed(learner, 0, 700)
    older = learner.drift_runs.on_drift(alert(650, 601))
    feed(learner, 700, 1300)

    newer = learner.drift_runs.on_drift(alert(1290, 1250, "another"))

    assert older is not None
    assert newer is not None
    assert set(learner.lines.learning) == {"logistic-regression-0", newer.data.line}


def test_a_hundred_feedback_events_start_a_line_from_now_and_corrections_are_not_learned() -> None:
    learner = make_learner(state(of=spec(retrain={"on_feedback": 100})))
    feed(learner, 0, 300)
    learner.take_events()

    for i in range(300, 401):
        learner.learn(Outcome.from_event(event(i - 200, label=None, correction=1, kind="feedback"), i))

    events = learner.take_events()
    [run] = of(RunRequested, events)
    assert (run.data.trigger, run.data.start_offset, run.data.requested_offset) == ("feedback", 400, 399)
    assert learner.progress.outcomes == 300
    assert of(ChallengeUpdated, events) == []


def test_labels_schedule_and_metric_floor_start_runs() -> None:
    by_labels = make_learner(state(of=spec(retrain={"on_labels": 600, "cooldown": 100})))
    by_schedule = make_learner(state(of=spec(retrain={"on_schedule": "0 3 * * *"})))
    by_metric = make_learner(state(of=spec(retrain={"below": 0.9})))

    for each in (by_labels, by_schedule, by_metric):
        feed(each, 0, 700)

    def keys(learner: LoopLearner) -> list[str]:
        return [k for k, r in learner.runs.requests.items() if r.data.trigger != "initial"]

    assert keys(by_labels) == ["labels/599"]
    assert keys(by_schedule) == [f"schedule/{int((START + timedelta(hours=3)).timestamp())}"]
    assert keys(by_metric) == ["metric/499"]


def test_a_replay_without_a_snapshot_adopts_the_runs_of_the_log_and_requests_none() -> None:
    first = make_learner(state(of=spec(retrain={"on_feedback": 50, "cooldown": 100})))
    feed(first, 0, 400, kind="feedback")
    first.drift_runs.on_drift(alert(390, 380))
    feed(first, 400, 600)
    events = first.take_events()

    second = make_learner(first.state)
    second.runs.adopt(first.runs.requests.values(), of(RunFinished, events))
    feed(second, 0, 600)

    again = second.take_events()
    assert of(RunRequested, again) == []
    assert set(second.runs.requests) == set(first.runs.requests)
    assert second.lines.fresh == first.lines.fresh
    assert losses(again)[first.lines.fresh] == losses(events)[first.lines.fresh]


def floor(metric: str, below: float, task: str = "binary", **parts: object) -> LoopLearner:
    of_task = {"models": [{"preset": "linear"}]} if task == "regression" else {}
    return make_learner(state(of=spec(task=task, metric=metric, retrain={"below": below}, **of_task, **parts)))


def reasons(learner: LoopLearner) -> list[str]:
    return [r.data.reason for r in learner.runs.requests.values() if r.data.trigger == "metric"]


@pytest.mark.parametrize(
    ("metric", "below", "reason"),
    [
        ("f1", 0.9, "the last 500 outcomes were served with f1 0.000, below 0.9"),
        ("roc_auc", 0.9, "the last 500 outcomes were served with roc_auc 0.500, below 0.9"),
        ("log_loss", 0.5, "the last 500 outcomes were served with log_loss 2.303, above 0.5"),
    ],
)
def test_the_floor_acts_on_the_metric_of_the_spec(metric: str, below: float, reason: str) -> None:
    learner = floor(metric, below)
    for i in range(600):
        label = metric == "log_loss" or i % 200 == 0
        learner.learn(Outcome.from_event(event(i, label=label, probabilities={"true": 0.1, "false": 0.9}), i))

    assert reasons(learner) == [reason]


@pytest.mark.parametrize(("metric", "below", "acts"), [("r2", 0.5, True), ("r2", -1.0, False), ("rmse", 5.0, True)])
def test_the_floor_of_a_regression_is_above_an_error_and_below_a_fit(metric: str, below: float, acts: bool) -> None:
    learner = floor(metric, below, "regression")
    for i in range(600):
        learner.learn(Outcome.from_event(event(i, label=float(i % 20), prediction=9.5), i))

    assert bool(reasons(learner)) is acts


@pytest.mark.parametrize("metric", ["f1", "roc_auc"])
def test_the_floor_starts_no_run_where_the_metric_is_undefined(metric: str) -> None:
    learner = floor(metric, 0.99)
    for i in range(1500):
        learner.learn(Outcome.from_event(event(i, label=False, probabilities={"true": 0.2, "false": 0.8}), i))

    assert reasons(learner) == []


def test_only_the_oldest_runs_beyond_the_limit_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_starter, "RUNS_KEPT", 6)
    learner = make_learner()
    feed(learner, 0, 100)

    for number in range(5):
        learner.runs.start_manual(f"person-{number}", "why not")
    all_kept = [learner.runs.find(f"manual/person-{number}") is not None for number in range(5)]
    for number in range(5, 9):
        learner.runs.start_manual(f"person-{number}", "why not")

    assert all_kept == [True] * 5
    assert learner.runs.find("manual/person-0") is None
    assert learner.runs.find("manual/person-8") is not None
    assert len(learner.runs.requests) == 6
