"""A line that breaks on an outcome starts again without it, from its last version or the log, to the same bytes."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
from tests.training.training_harness import (
    MemoryArtifacts,
    alert,
    dependencies,
    event,
    losses,
    make_learner,
    model_of,
    of,
    outcomes,
    spec,
    state,
)

from everloop_learning.outcome import Outcome
from everloop_models.formats.river.model import RiverModel
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.training import LineFailed, ModelTrained, RunFinished
from everloop_training.worker.learners.loop_learner import LoopLearner

LINE = "logistic-regression-0"
POISON = 7e77


@pytest.fixture(autouse=True)
def _fragile_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose weights one value ruins, as the estimators of a user may be."""
    sound = RiverModel.learn

    def learn(self: RiverModel, features: Fields, label: Scalar) -> None:
        sound(self, features, label)
        if features["a"] == POISON:
            self.estimator.intercept = math.nan

    monkeypatch.setattr(RiverModel, "learn", learn)


def poisoned(*offsets: int) -> dict[int, Outcome]:
    return {o: Outcome.from_event(event(o, features={"a": POISON, "b": 0.5}), o) for o in offsets}


def feed(learner: LoopLearner, start: int, stop: int, poison: dict[int, Outcome], **parts: Any) -> None:
    for outcome in outcomes(start, stop, **parts):
        learner.learn(poison.get(outcome.offset, outcome))


def fill(learner: LoopLearner, poison: dict[int, Outcome]) -> None:
    while gaps := learner.lines.gaps():
        history = outcomes(gaps[0].start, gaps[0].stop)
        learner.learn_history(gaps[0], [poison.get(o.offset, o) for o in history])


def test_the_champions_line_goes_on_without_the_outcome_that_broke_it() -> None:
    learner, poison = make_learner(state(1, champion=f"{LINE}@29")), poisoned(450)
    feed(learner, 0, 700, poison)

    events = learner.take_events()

    [failed] = of(LineFailed, events)
    assert (failed.data.line, failed.data.state, failed.data.offset) == (LINE, "restarted", 451)
    assert failed.data.skipped == (450, 451)
    assert "not finite" in failed.data.reason
    assert sorted(losses(events)[LINE]) == [o for o in range(700) if o != 451]
    last = of(ModelTrained, events)[-1].data
    assert (last.offset, last.manifest.skipped, last.manifest.outcomes) == (601, (450, 451), 600)
    assert [e.data.state for e in of(RunFinished, events)] == ["trained"]


def test_restarting_from_the_last_version_or_from_the_log_gives_the_same_bytes() -> None:
    poison, made = poisoned(3450), list[str]()
    for forgets in (False, True):
        artifacts = MemoryArtifacts()
        learner = make_learner(state(1, champion=f"{LINE}@29"), artifacts)
        feed(learner, 0, 3450, poison)
        if forgets:
            artifacts.stored.clear()
        feed(learner, 3450, 3600, poison)
        fill(learner, poison)
        feed(learner, 3600, 3800, poison)
        made.append(of(ModelTrained, learner.take_events())[-1].data.sha256)

    assert made[0] == made[1]


def test_a_line_does_not_restart_from_a_version_that_has_learned_the_outcome() -> None:
    artifacts, poison = MemoryArtifacts(), poisoned(399)
    learner = make_learner(state(1, champion=f"{LINE}@29"), artifacts)

    feed(learner, 0, 600, poison)

    assert f"{LINE}@399" in artifacts.stored
    assert learner.lines.learning[LINE].caught_up
    model = model_of(learner, LINE)
    assert math.isfinite(model.estimator.intercept)


@pytest.mark.parametrize("at", [0, 5, 28])
def test_a_line_that_breaks_before_its_first_version_is_still_trained(at: int) -> None:
    learner = make_learner()

    feed(learner, 0, 60, poisoned(at))

    [first] = of(ModelTrained, learner.take_events())
    assert first.data.reason == "initial"
    assert first.data.manifest.skipped == (at, at + 1)


def test_a_fresh_line_that_meets_it_in_history_starts_again_too() -> None:
    learner, poison = make_learner(), poisoned(450)
    feed(learner, 0, 600, poison)
    learner.take_events()

    fresh = learner.drift_runs.on_drift(alert(599, 400))
    feed(learner, 600, 700, poison)

    assert fresh is not None
    assert fresh.data.line in losses(learner.take_events())
    assert learner.lines.skipped[fresh.data.line] == [frozenset({450, 451})]


def test_a_line_that_breaks_too_often_ends_and_the_others_go_on() -> None:
    learner = make_learner(state(of=spec(models=[{"preset": "logistic"}, {"preset": "naive_bayes"}])))

    feed(learner, 0, 700, poisoned(*range(100, 700, 50)))

    events = learner.take_events()
    states = [f.data.state for f in of(LineFailed, events) if f.data.line == "logistic-0"]
    assert states == ["restarted"] * 5 + ["ended"]
    assert "logistic-0" not in learner.lines.learning
    assert max(losses(events)["naive-bayes-0"]) == 699


def test_a_line_that_is_needed_again_does_not_meet_what_broke_it() -> None:
    learner, poison = make_learner(state(1, champion=f"{LINE}@29")), poisoned(450)
    feed(learner, 0, 500, poison)
    learner.take_events()
    learner.lines.retain(set(), learner.state.data.spec)
    feed(learner, 500, 600, poison)

    learner.on_loop_state(state(2, champion=f"{LINE}@429"))
    fill(learner, poison)
    feed(learner, 600, 700, poison)

    assert of(LineFailed, learner.take_events()) == []
    assert learner.lines.learning[LINE].caught_up


def test_a_restored_learner_publishes_the_same_failure_of_the_same_outcome() -> None:
    poison = poisoned(450)
    straight = make_learner(state(1, champion=f"{LINE}@29"))
    feed(straight, 0, 700, poison)
    cut = make_learner(state(1, champion=f"{LINE}@29"))
    feed(cut, 0, 450, poison)

    restored: LoopLearner = pickle.loads(pickle.dumps(cut))
    restored.attach(dependencies())
    restored.live = True
    feed(restored, 450, 700, poison)
    fill(restored, poison)

    [before], [after] = of(LineFailed, straight.take_events()), of(LineFailed, restored.take_events())
    assert before.id == after.id
    assert before.data == after.data
    assert restored.lines.learning[LINE].outcomes == straight.lines.learning[LINE].outcomes
