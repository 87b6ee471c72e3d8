"""The learner of a loop: lines, runs and versions as a fold of the outcome log."""

from __future__ import annotations

import math
import pickle
from datetime import timedelta

import pytest
from tests.training.training_harness import (
    START,
    MemoryArtifacts,
    alert,
    dependencies,
    event,
    feed,
    label_of,
    losses,
    make_learner,
    model_of,
    of,
    outcomes,
    spec,
    state,
)

from everloop_learning.outcome import Outcome
from everloop_models import ModelBroken, verify_and_load
from everloop_schemas.training import ChallengeUpdated, LineFailed, ModelTrained, RunFinished, RunRequested
from everloop_training.worker.learners import version_maker
from everloop_training.worker.learners.loop_learner import LoopLearner


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


def test_versions_say_what_their_features_are_worth_and_refreshes_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version_maker, "WEIGHED_EVERY", 100)
    learner = make_learner(state(of=spec(refresh={"every": 50})))
    feed(learner, 0, 60)
    initial = of(ModelTrained, learner.take_events())
    learner.on_loop_state(state(1, champion="logistic-regression-0@29", of=learner.state.data.spec))
    feed(learner, 60, 260)
    refreshes = of(ModelTrained, learner.take_events())
    learner.on_loop_state(state(2, stage="training", winner="logistic-regression-0", of=learner.state.data.spec))
    gate = of(ModelTrained, learner.take_events())

    weighed = {e.subject: e.data.importance for e in (*initial, *refreshes, *gate)}
    assert [subject.rpartition("@")[2] for subject, found in weighed.items() if found] == ["29", "149", "249", "259"]
    assert len(weighed) == 6
    last = weighed["logistic-regression-0@259"]
    assert last is not None
    assert sum(last.values()) == pytest.approx(1)
    assert last["a"] > 0.7


def test_a_line_is_refreshed_four_times_a_second_at_most_by_the_time_of_the_log() -> None:
    learner = make_learner(state(of=spec(refresh={"every": 10})))
    feed(learner, 0, 60)
    learner.take_events()
    learner.on_loop_state(state(1, champion="logistic-regression-0@29", of=learner.state.data.spec))

    for i, outcome in enumerate(outcomes(60, 160)):
        learner.learn(outcome._replace(time=1e9 + i / 100))

    assert [e.subject for e in of(ModelTrained, learner.take_events())] == [
        f"logistic-regression-0@{offset}" for offset in (69, 99, 129, 159)
    ]


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


@pytest.mark.promise(9)
def test_the_same_alert_twice_is_one_run() -> None:
    learner = make_learner()
    feed(learner, 0, 700)
    first = learner.drift_runs.on_drift(alert(650, 601))

    again = learner.drift_runs.on_drift(alert(650, 601))

    assert again == first
    assert len([r for r in learner.runs.requests.values() if r.data.trigger == "drift"]) == 1


def test_a_line_that_raises_fails_alone_and_is_never_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner(state(of=spec(models=[{"preset": "logistic"}, {"preset": "naive_bayes"}])))
    feed(learner, 0, 100)
    learner.take_events()
    broken = learner.lines.learning["naive-bayes-0"]

    def raises(*_: object) -> None:
        raise ModelBroken("the probability is not finite")

    monkeypatch.setattr(model_of(learner, broken.name), "learn", raises)
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
    models = [model_of(each, "logistic-regression-0") for each in (untouched, learner)]
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
