"""How many predictions feedback may decide, in all and by source."""

from __future__ import annotations

import pytest

from everloop_learning.feedback_share import FREE_PREDICTIONS, SOURCES_BY_NAME, FeedbackShare


def labelled(n: int) -> FeedbackShare:
    """A loop with so many labels."""
    share = FeedbackShare()
    for _ in range(n):
        assert share.admit(True, None)
    return share


@pytest.mark.parametrize("source", ["mallory", None, ""])
def test_one_source_decides_a_twentieth_of_what_labels_decide(source: str | None) -> None:
    share = labelled(1_000)

    decided = sum(share.admit(False, source) for _ in range(2_000))

    assert decided == 50


def test_feedback_without_a_source_counts_as_one_source() -> None:
    share = labelled(1_000)

    decided = sum(share.admit(False, None if i % 2 else "") for i in range(200))

    assert decided == 50


def test_a_thousand_made_up_names_decide_a_quarter_of_what_labels_decide() -> None:
    share = labelled(1_000)

    decided = sum(share.admit(False, f"name {i}") for i in range(2_000))

    assert decided <= 250
    assert len(share.by_source) <= SOURCES_BY_NAME + 1


def test_in_a_loop_without_labels_feedback_decides_everything() -> None:
    share = FeedbackShare()

    assert all(share.admit(False, "app") for _ in range(1_000))


def test_where_feedback_decides_most_predictions_some_labels_do_not_limit_it() -> None:
    share = FeedbackShare()
    for i in range(1_000):
        share.admit(i % 3 == 0, "app")

    assert all(share.admit(False, "app") for _ in range(100))


def test_with_few_labels_some_feedback_is_free() -> None:
    share = labelled(20)

    assert sum(share.admit(False, "app") for _ in range(100)) == FREE_PREDICTIONS


def test_more_labels_make_room_for_more_feedback() -> None:
    share = labelled(1_000)
    while share.admit(False, "app"):
        pass

    for _ in range(40):
        share.admit(True, None)

    assert sum(share.admit(False, "app") for _ in range(10)) == 2
