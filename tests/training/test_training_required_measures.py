"""What a spec requires of challengers is measured on each line's own predictions, made before it learned."""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from typing import Any

import pytest
from tests.builders.census import REQUIRED, SCHEMA, blind_model, census, census_outcomes
from tests.builders.onnx_models import normalised
from tests.training.predicting_lines import BATCH, BATCH_LINE, end_training, fitted, mixed, open_trainings, submission
from tests.training.training_harness import (
    MemoryArtifacts,
    feed,
    make_learner,
    of,
    spec,
    state,
)

from everloop_learning.outcome import Outcome
from everloop_metrics.measure_window import BLOCK_OUTCOMES, BLOCKS
from everloop_schemas.training import ChallengeUpdated, Measured
from everloop_training.worker.learners.learning_line import LearningLine
from everloop_training.worker.learners.loop_learner import LoopLearner

LOGISTIC_LINE = "logistic-0"
CENSUS: dict[str, Any] = {"schema": SCHEMA, "models": [{"preset": "logistic"}], "monitor": {"fairness": ["sex"]}}
PARITY = REQUIRED.partition(" ")[0]


def last_measures(learner: LoopLearner) -> dict[str, dict[str, Measured]]:
    return of(ChallengeUpdated, learner.take_events())[-1].data.measures


def value(of_measure: Measured) -> float:
    """The value of a measure that is known."""
    assert of_measure.value is not None
    return of_measure.value


def learn(learner: LoopLearner, made: list[Outcome]) -> None:
    for one in made:
        learner.learn(one)


def test_without_requirements_nothing_is_measured_and_the_event_is_as_before() -> None:
    learner = make_learner()
    feed(learner, 0, 150)

    [reported, *_] = of(ChallengeUpdated, learner.take_events())

    assert reported.data.measures == {}
    assert learner.required.window is None


def test_a_measure_is_that_of_the_predictions_made_before_the_label_was_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given: every prediction of the line after the outcome that started it, noted as it is made
    seen: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    step = LearningLine.predict_then_learn

    def noted(line: LearningLine, outcome: Outcome, losses: Any) -> Any:
        made = step(line, outcome, losses)
        if outcome.offset > line.line.requested_offset:
            seen[str(outcome.features["sex"])].append((bool(outcome.label), bool(made.prediction.value)))
        return made

    monkeypatch.setattr(LearningLine, "predict_then_learn", noted)
    learner = make_learner(state(of=spec(**CENSUS, gate={"require": [REQUIRED, "accuracy >= 0.5"]})))

    # when: it learns a census
    learn(learner, census_outcomes(census(1500)))

    # then: its measures are those of these predictions
    measured = last_measures(learner)[LOGISTIC_LINE]
    hits = {sex: Counter(predicted for label, predicted in rows if label) for sex, rows in seen.items()}
    rates = [of_sex[True] / of_sex.total() for of_sex in hits.values()]
    rows = [row for of_sex in seen.values() for row in of_sex]
    assert measured[PARITY].value == pytest.approx(max(rates) - min(rates), abs=1e-12)
    assert measured["accuracy"].value == pytest.approx(sum(a == b for a, b in rows) / len(rows), abs=1e-12)
    for one in measured.values():
        assert sorted((one.low or 0, value(one), one.high or 0)) == [one.low, one.value, one.high]


def test_a_model_that_uses_the_sex_is_right_more_often_and_treats_women_worse_than_one_that_does_not() -> None:
    # given: a line that learns all features, and a submitted model that is not told the sex
    of_census, artifacts = spec(**CENSUS, gate={"require": [REQUIRED, "accuracy >= 0.6"]}), MemoryArtifacts()
    learner = make_learner(state(of=of_census), artifacts)
    made = census_outcomes(census(2200))
    learn(learner, made[:100])
    stored = artifacts.put("blind", normalised(blind_model(), of_census).data)
    learner.on_loop_state(state(1, of=of_census, submissions=[submission(stored, "blind-100", 99)]))

    # when: both predict the same outcomes
    learn(learner, made[100:])

    # then: each is measured, and only one of them meets the requirement
    measures = last_measures(learner)
    biased, blind = measures[LOGISTIC_LINE], measures["blind-100"]
    assert value(biased["accuracy"]) > value(blind["accuracy"]) + 0.02
    assert value(biased[PARITY]) > 0.3
    assert value(blind[PARITY]) < 0.1


def test_a_batch_line_is_measured_from_its_first_model_on() -> None:
    artifacts = MemoryArtifacts()
    learner = make_learner(state(of=mixed(BATCH, gate={"require": ["accuracy >= 0.8"]})), artifacts)
    feed(learner, 0, 320)
    before = last_measures(learner)

    for run in open_trainings(learner):
        end_training(learner, run, artifacts.put(run.data.run, fitted()))
    feed(learner, 320, 450)

    after = last_measures(learner)
    assert BATCH_LINE not in before
    assert (after[BATCH_LINE]["accuracy"].value, after[BATCH_LINE]["accuracy"].outcomes) == (1.0, 130)


def test_the_window_has_the_latest_outcomes_only() -> None:
    learner = make_learner(state(of=spec(gate={"require": ["accuracy >= 0.8"]})))
    feed(learner, 0, 2500)

    [measured] = last_measures(learner)["logistic-regression-0"].values()

    assert (BLOCKS - 1) * BLOCK_OUTCOMES <= measured.outcomes <= BLOCKS * BLOCK_OUTCOMES


def test_a_learner_that_is_restored_from_a_snapshot_reports_the_same() -> None:
    learner = make_learner(state(of=spec(gate={"require": ["accuracy >= 0.8", "f1 >= 0.1"]})))
    feed(learner, 0, 700)
    learner.take_events()

    again: LoopLearner = pickle.loads(pickle.dumps(learner))
    again.attach(learner.events.dependencies)
    for each in (learner, again):
        feed(each, 700, 800)

    one, other = of(ChallengeUpdated, learner.take_events()), of(ChallengeUpdated, again.take_events())
    assert [(e.id, e.data) for e in one] == [(e.id, e.data) for e in other]
    assert one[-1].data.measures["logistic-regression-0"]["f1"].value is not None


def test_a_spec_that_requires_something_else_is_measured_anew() -> None:
    learner = make_learner(state(of=spec(gate={"require": ["accuracy >= 0.8"]})))
    feed(learner, 0, 300)

    learner.on_loop_state(state(1, of=spec(gate={"require": ["f1 >= 0.8"]})))
    feed(learner, 300, 400)

    measured = last_measures(learner)["logistic-regression-0"]
    assert {name: one.outcomes for name, one in measured.items()} == {"f1": 100}
