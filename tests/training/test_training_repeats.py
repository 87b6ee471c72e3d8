"""Records that the outcome log holds twice: feature published them again after a crash, and they are learned once."""

from __future__ import annotations

import pickle

from tests.training.training_harness import dependencies, losses, make_learner, model_of, outcomes, state

from everloop_learning.outcome import Outcome
from everloop_training.worker.learners.loop_learner import LoopLearner


def log_with_repeats(stop: int) -> list[Outcome]:
    """Outcomes 40 to 49 lie on the log a second time, at offsets 50 to 59."""
    again = [o._replace(offset=o.offset + 10) for o in outcomes(40, 50)]
    return [*outcomes(0, 50), *again, *outcomes(60, stop)]


def fed(learner: LoopLearner, log: list[Outcome]) -> LoopLearner:
    for outcome in log:
        learner.learn(outcome)
    return learner


def test_an_outcome_that_lies_on_the_log_twice_is_learned_once() -> None:
    learner = fed(make_learner(), log_with_repeats(100))

    reported = losses(learner.take_events())["logistic-regression-0"]

    assert set(reported) == {*range(50), *range(60, 100)}
    assert learner.progress.outcomes == 90
    assert learner.triggers.labels == 90
    assert learner.progress.position == 99


def test_a_line_rebuilt_from_history_leaves_out_the_same_records() -> None:
    untouched, learner = fed(make_learner(), log_with_repeats(5000)), fed(make_learner(), log_with_repeats(2000))
    learner.lines.retain(set(), learner.state.data.spec)
    fed(learner, outcomes(2000, 4000))

    learner.on_loop_state(state(1, champion="logistic-regression-0@29"))
    while gaps := learner.lines.gaps():
        learner.learn_history(gaps[0], [o for o in log_with_repeats(5000) if gaps[0].start <= o.offset < gaps[0].stop])
    fed(learner, outcomes(4000, 5000))

    name = "logistic-regression-0"
    line, kept = (each.lines.learning[name] for each in (learner, untouched))
    models = [pickle.dumps(model_of(each, name)) for each in (learner, untouched)]
    assert (line.outcomes, models[0]) == (kept.outcomes, models[1])


def test_a_snapshot_between_an_outcome_and_its_repetition_remembers() -> None:
    log = log_with_repeats(70)
    learner = pickle.loads(pickle.dumps(fed(make_learner(), log[:53])))
    learner.attach(dependencies())

    fed(learner, log[53:])

    assert learner.progress.outcomes == 60
