"""Which record of the log is learned for a prediction."""

from __future__ import annotations

from typing import Any

from tests.training.training_harness import event, make_learner

from everloop_learning.outcome import Outcome


def labelled(i: int, offset: int, **parts: Any) -> Outcome:
    """A label or feedback for the i-th prediction."""
    return Outcome.from_event(event(i, **parts), offset)


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
