"""Which record of the log is learned for a prediction."""

from __future__ import annotations

from typing import Any

from tests.training.training_world import event, make_learner

from everloop_training.domain.outcome import Outcome, outcome_of
from everloop_training.worker.learners.first_labels import FirstLabels


def labelled(i: int, offset: int, **parts: Any) -> Outcome:
    """A label or feedback for the i-th prediction."""
    return outcome_of(event(i, **parts), offset)


def mallory(i: int, offset: int, correction: int = 0) -> Outcome:
    """Feedback of one source on the i-th prediction."""
    return labelled(i, offset, kind="feedback", source="mallory", label=True, correction=correction)


def test_feedback_of_one_source_is_learned_within_its_share_and_the_labels_after_it_are_learned() -> None:
    learner = make_learner()
    for i in range(200):
        learner.learn(labelled(i, i))
    before = learner.progress.outcomes

    for i in range(200, 400):
        learner.learn(mallory(i, i))
    with_feedback = learner.progress.outcomes
    for i in range(200, 400):
        learner.learn(labelled(i, i + 200, correction=1))

    assert (before, with_feedback, learner.progress.outcomes) == (200, 210, 400)


def test_a_label_after_not_this_is_learned_once() -> None:
    first_labels = FirstLabels()
    records = [
        labelled(1, 0, label=None, rejected="cat", kind="feedback"),
        labelled(1, 1, correction=1),
        labelled(1, 2, correction=2),
    ]

    assert [first_labels.decide(o).learnable for o in records] == [False, True, False]


def test_a_correction_of_what_was_learned_is_not_learned() -> None:
    first_labels = FirstLabels()

    assert [first_labels.decide(o).learnable for o in (labelled(1, 0), labelled(1, 1, correction=1))] == [True, False]


def test_history_is_learned_as_it_was_decided() -> None:
    first_labels = FirstLabels()
    log = [labelled(i, i) for i in range(100)] + [mallory(i, i) for i in range(100, 150)]
    log += [labelled(i, i + 50, correction=1) for i in range(100, 150)]
    decided = [first_labels.decide(o) for o in log]

    assert [first_labels.recall(o) for o in log] == decided
    assert sum(o.learnable for o in decided) == 150
