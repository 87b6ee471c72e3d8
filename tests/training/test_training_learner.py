"""The learner of a loop: lines, runs and versions as a fold of the outcome log."""

from __future__ import annotations

import math
import pickle
from datetime import timedelta
from typing import Any

import pytest
from tests.training.training_world import (
    START,
    MemoryArtifacts,
    alert,
    dependencies,
    event,
    label_of,
    losses,
    make_learner,
    of,
    outcomes,
    spec,
    state,
)

from everloop_learning.outcome import Outcome
from everloop_models import ModelBroken, verify_and_load
from everloop_schemas.training import ChallengeUpdated, LineFailed, ModelTrained, RunFinished, RunRequested
from everloop_training.worker.learners.loop_learner import LoopLearner


def feed(learner: LoopLearner, start: int, stop: int, **parts: object) -> None:
    for outcome in outcomes(start, stop, **parts):
        learner.learn(outcome)


def test_the_first_outcome_starts_a_line_for_every_model_of_the_spec() -> None:
    learner = make_learner(state(of=spec(models=[{"preset": "logistic"}, {"preset": "naive_bayes"}])))

    feed(learner, 7, 8)

    runs = of(RunRequested, learner.take_events())
    assert [(r.data.line, r.data.trigger, r.data.start_offset) for r in runs] == [
        ("logistic-7", "initial", 7),
        ("naive-bayes-7", "initial", 7),
    ]


@pytest.mark.promise(5)
def test_every_line_predicts_each_outcome_before_it_learns_it() -> None:
    learner = make_learner()

    feed(learner, 0, 1)

    [challenge] = of(ChallengeUpdated, learner.take_events())
    first = float(label_of(outcomes(0, 1)[0].features["a"]))  # type: ignore[arg-type]
    assert challenge.data.losses == {"0": (first,), "logistic-regression-0": (first,)}


def test_the_initial_version_comes_after_thirty_outcomes_and_can_be_loaded() -> None:
    artifacts = MemoryArtifacts()
    learner = make_learner(artifacts=artifacts)

    feed(learner, 0, 40)

    events = learner.take_events()
    [version] = of(ModelTrained, events)
    [finished] = of(RunFinished, events)
    assert (version.subject, version.data.reason) == ("logistic-regression-0@29", "initial")
    assert (finished.data.state, finished.correlationid) == ("trained", version.correlationid)
    model = verify_and_load(artifacts.stored[version.subject], version.data.sha256)
    assert model.signature == version.data.signature == ("a", "b")
    assert version.data.manifest.end_offset == version.data.offset == 29


def test_only_the_champion_and_the_candidate_are_refreshed() -> None:
    learner = make_learner(
        state(of=spec(models=[{"preset": "logistic"}, {"preset": "naive_bayes"}], refresh={"every": 50}))
    )
    feed(learner, 0, 60)
    learner.take_events()
    learner.on_loop_state(state(1, champion="logistic-0@29", of=learner.state.data.spec))

    feed(learner, 60, 160)

    assert [e.subject for e in of(ModelTrained, learner.take_events())] == ["logistic-0@99", "logistic-0@149"]


def test_a_pinned_loop_is_not_refreshed() -> None:
    learner = make_learner()
    feed(learner, 0, 60)
    learner.take_events()
    learner.on_loop_state(state(1, champion="logistic-regression-0@29", pinned=True))

    feed(learner, 60, 260)

    assert of(ModelTrained, learner.take_events()) == []


def test_the_winner_of_the_gate_becomes_a_version_at_once_and_once() -> None:
    learner = make_learner()
    feed(learner, 0, 60)
    learner.take_events()

    learner.on_loop_state(state(1, stage="training", winner="logistic-regression-0"))
    first = learner.take_events()
    learner.on_loop_state(state(2, stage="training", winner="logistic-regression-0"))
    second = learner.take_events()

    assert [(e.subject, e.data.reason) for e in of(ModelTrained, first)] == [("logistic-regression-0@59", "gate")]
    assert second == []


def test_a_version_that_cannot_be_stored_is_made_once_the_disk_has_space() -> None:
    artifacts, clock = MemoryArtifacts(full=True), [START]
    learner = LoopLearner(state(), 0, dependencies(artifacts, lambda: clock[0]))
    learner.live = True
    feed(learner, 0, 40)
    assert of(ModelTrained, learner.take_events()) == []

    artifacts.full = False
    clock[0] += timedelta(seconds=10)

    assert [e.data.reason for e in of(ModelTrained, learner.take_events())] == ["initial"]


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


@pytest.mark.promise(9)
def test_the_same_alert_twice_is_one_run() -> None:
    learner = make_learner()
    feed(learner, 0, 700)
    first = learner.drift_runs.on_drift(alert(650, 601))

    again = learner.drift_runs.on_drift(alert(650, 601))

    assert again == first
    assert len([r for r in learner.runs.requests.values() if r.data.trigger == "drift"]) == 1


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


def test_a_line_that_raises_fails_alone_and_is_never_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner(state(of=spec(models=[{"preset": "logistic"}, {"preset": "naive_bayes"}])))
    feed(learner, 0, 100)
    learner.take_events()
    broken = learner.lines.learning["naive-bayes-0"]

    def raises(*_: object) -> None:
        raise ModelBroken("the probability is not finite")

    monkeypatch.setattr(broken.model, "learn", raises)
    monkeypatch.setattr("everloop_training.worker.learners.line_registry.MAX_RESTARTS", 0)
    feed(learner, 100, 200)

    events = learner.take_events()
    [failed] = of(LineFailed, events)
    assert (failed.data.line, failed.data.state, failed.data.offset) == ("naive-bayes-0", "ended", 99)
    assert "not finite" in failed.data.reason
    assert sorted(losses(events)["logistic-0"]) == list(range(100, 200))
    assert set(learner.lines.learning) == {"logistic-0"}


@pytest.mark.promise(4)
def test_a_champion_that_comes_back_is_rebuilt_from_history_to_the_last_bit() -> None:
    untouched, learner = make_learner(), make_learner()
    feed(untouched, 0, 5000)
    feed(learner, 0, 2000)
    learner.lines.retain(set(), learner.state.data.spec)
    feed(learner, 2000, 4000)

    learner.on_loop_state(state(1, champion="logistic-regression-0@29"))
    while gaps := learner.lines.gaps():
        learner.learn_history(gaps[0], outcomes(gaps[0].start, gaps[0].stop))
    feed(learner, 4000, 5000)

    whole, rebuilt = losses(untouched.take_events()), losses(learner.take_events())
    assert [rebuilt["logistic-regression-0"][i] for i in range(4000, 5000)] == [
        whole["logistic-regression-0"][i] for i in range(4000, 5000)
    ]
    models: list[Any] = [each.lines.learning["logistic-regression-0"].model for each in (untouched, learner)]
    weights = [model.estimator.weights for model in models]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("preset", ["logistic", "hoeffding_tree", "adaptive_forest"])
def test_a_learner_restored_from_a_snapshot_gives_the_same_losses(preset: str) -> None:
    loop = state(of=spec(models=[{"preset": preset, **({"trees": 2} if preset == "adaptive_forest" else {})}]))
    whole, before = make_learner(loop), make_learner(loop)
    feed(whole, 0, 600)
    feed(before, 0, 333)
    events = before.take_events()

    after: LoopLearner = pickle.loads(pickle.dumps(before))
    after.attach(dependencies())
    feed(after, 300, 600)

    assert losses([*events, *after.take_events()]) == losses(whole.take_events())


def test_a_replay_without_a_snapshot_adopts_the_runs_of_the_log_and_requests_none() -> None:
    first = make_learner(state(of=spec(retrain={"on_feedback": 50, "cooldown": 100})))
    feed(first, 0, 400, kind="feedback")
    first.drift_runs.on_drift(alert(390, 380))
    feed(first, 400, 600)
    events = first.take_events()

    second = make_learner(first.state)
    second.runs.adopt(first.runs.requests.values(), [e.data.run for e in of(RunFinished, events)])
    feed(second, 0, 600)

    again = second.take_events()
    assert of(RunRequested, again) == []
    assert set(second.runs.requests) == set(first.runs.requests)
    assert second.lines.fresh == first.lines.fresh
    assert losses(again)[first.lines.fresh] == losses(events)[first.lines.fresh]


def test_regression_losses_lie_between_zero_and_one() -> None:
    loop = spec(task="regression", models=[{"preset": "linear"}])
    learner = make_learner(state(of=loop))

    for i in range(500):
        a = float(outcomes(i, i + 1)[0].features["a"] or 0)
        learner.learn(Outcome.from_event(event(i, label=100 * a, prediction=0.0), i))

    seen = losses(learner.take_events())
    assert all(0 <= loss <= 1 for line in seen.values() for loss in line.values())
    assert sum(seen["linear-0"].values()) < sum(seen["0"].values())


def test_labels_at_the_edge_of_a_double_cost_at_most_a_line_and_the_loop_goes_on() -> None:
    huge, of = 1.7976931348623157e308, spec(task="regression", models=[{"preset": "linear"}])
    learner = make_learner(state(of=of))
    strikes = {50: huge, 51: -huge, 52: huge, 53: -huge, 54: 10**400}

    for i in range(300):
        learner.learn(Outcome.from_event(event(i, label=strikes.get(i, float(i % 10)), prediction=0.0), i))
    events = learner.take_events()

    reported = losses(events)["0"]
    assert sorted(reported) == list(range(300))
    assert all(0.0 <= loss <= 1.0 for loss in reported.values())
    assert 2 < learner.losses.spread.width < 5
    assert math.isfinite(float(learner.baseline.predict().value))


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
