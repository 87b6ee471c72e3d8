"""Which record of the log teaches a prediction's truth."""

from __future__ import annotations

from typing import Any

from tests.training.training_world import event, learner

from everloop_training.domain.firsts import Firsts
from everloop_training.domain.outcome import Outcome, outcome_of


def said(i: int, offset: int, **parts: Any) -> Outcome:
    """A word on the i-th prediction."""
    return outcome_of(event(i, **parts), offset)


def mallory(i: int, offset: int, correction: int = 0) -> Outcome:
    """Feedback of one source on the i-th prediction."""
    return said(i, offset, kind="feedback", source="mallory", label=True, correction=correction)


def test_feedback_of_one_source_teaches_its_share_and_the_labels_after_it_are_learned() -> None:
    room = learner()
    for i in range(200):
        room.learn(said(i, i))
    before = room.outcomes

    for i in range(200, 400):
        room.learn(mallory(i, i))
    heard = room.outcomes
    for i in range(200, 400):
        room.learn(said(i, i + 200, correction=1))

    assert (before, heard, room.outcomes) == (200, 210, 400)


def test_a_label_after_not_this_is_learned_once() -> None:
    firsts = Firsts()
    words = [
        said(1, 0, label=None, rejected="cat", kind="feedback"),
        said(1, 1, correction=1),
        said(1, 2, correction=2),
    ]

    assert [firsts.judged(o).learnable for o in words] == [False, True, False]


def test_a_correction_of_what_was_learned_is_not_learned() -> None:
    firsts = Firsts()

    assert [firsts.judged(o).learnable for o in (said(1, 0), said(1, 1, correction=1))] == [True, False]


def test_history_counts_as_it_was_judged() -> None:
    firsts = Firsts()
    log = [said(i, i) for i in range(100)] + [mallory(i, i) for i in range(100, 150)]
    log += [said(i, i + 50, correction=1) for i in range(100, 150)]
    judged = [firsts.judged(o) for o in log]

    assert [firsts.recalled(o) for o in log] == judged
    assert sum(o.learnable for o in judged) == 150
