"""Which records of the outcome log are learned, and that history is learned as the log was."""

from __future__ import annotations

from typing import Any

from everloop_learning.first_labels import FirstLabels
from everloop_learning.learnable import LearnableOutcomes
from everloop_learning.outcome import Outcome
from everloop_learning.repeats import IDS_REMEMBERED, OFFSETS_REMEMBERED, RepeatedRecords


def labelled(i: int, offset: int, correction: int = 0, **parts: Any) -> Outcome:
    """A label or feedback for the i-th prediction."""
    whole: dict[str, Any] = {
        "offset": offset,
        "time": float(i),
        "id": f"o{i}-{correction}",
        "features": {"a": 0.5},
        "label": True,
        "first": correction == 0,
        "feedback": False,
        "prediction": False,
        "probabilities": None,
        "prediction_id": f"p{i}",
    }
    return Outcome(**(whole | parts))


def feedback(i: int, offset: int, correction: int = 0) -> Outcome:
    """Feedback of one source on the i-th prediction."""
    return labelled(i, offset, correction, feedback=True, source="mallory")


def test_a_label_after_feedback_without_one_is_learned_once() -> None:
    first_labels = FirstLabels()
    records = [labelled(1, 0, label=None, feedback=True), labelled(1, 1, 1), labelled(1, 2, 2)]

    assert [first_labels.mark(o).learnable for o in records] == [False, True, False]


def test_a_correction_of_what_was_learned_is_not_learned() -> None:
    first_labels = FirstLabels()

    assert [first_labels.mark(o).learnable for o in (labelled(1, 0), labelled(1, 1, 1))] == [True, False]


def test_history_is_marked_as_it_was() -> None:
    first_labels = FirstLabels()
    log = [labelled(i, i) for i in range(100)] + [feedback(i, i) for i in range(100, 150)]
    log += [labelled(i, i + 50, 1) for i in range(100, 150)]
    marked = [first_labels.mark(o) for o in log]

    assert [first_labels.mark_again(o) for o in log] == marked
    assert sum(o.learnable for o in marked) == 150


def test_ids_are_remembered_up_to_a_limit() -> None:
    repeats = RepeatedRecords()
    for i in range(3):
        assert repeats.remember(labelled(i, i))
    for i in range(IDS_REMEMBERED):
        repeats.remember(labelled(3, i + 3)._replace(id=f"other-{i}"))

    assert repeats.remember(labelled(0, IDS_REMEMBERED + 3))


def test_offsets_of_repeated_records_are_remembered_up_to_a_limit() -> None:
    repeats = RepeatedRecords()
    for offset in range(OFFSETS_REMEMBERED + 10):
        repeats.remember(labelled(0, offset))

    assert (len(repeats.offsets), min(repeats.offsets)) == (OFFSETS_REMEMBERED, 10)


def test_history_is_admitted_as_the_log_was_without_repeated_records() -> None:
    learnable = LearnableOutcomes()
    log = [labelled(0, 0), labelled(0, 1), labelled(1, 2, label=None), labelled(1, 3, 1), labelled(1, 4, 2)]

    admitted = [learnable.admit(outcome) for outcome in log]

    assert [outcome and outcome.learnable for outcome in admitted] == [True, None, False, True, False]
    assert learnable.admit_again(log) == [outcome for outcome in admitted if outcome is not None]
