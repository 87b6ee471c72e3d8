"""One voice is one voice: how much of a loop's truth feedback may decide."""

from __future__ import annotations

import pytest

from everloop_features.sources import FREE, SOURCES, Sources


def labelled(n: int) -> Sources:
    """A loop with so many labels."""
    sources = Sources()
    for _ in range(n):
        assert sources.decides(True, None)
    return sources


@pytest.mark.parametrize("source", ["mallory", None, ""])
def test_one_source_decides_a_twentieth_of_what_labels_decide(source: str | None) -> None:
    sources = labelled(1_000)

    decided = sum(sources.decides(False, source) for _ in range(2_000))

    assert decided == 50


def test_the_nameless_are_one_source() -> None:
    sources = labelled(1_000)

    decided = sum(sources.decides(False, None if i % 2 else "") for i in range(200))

    assert decided == 50


def test_a_thousand_made_up_names_decide_a_quarter_of_what_labels_decide() -> None:
    sources = labelled(1_000)

    decided = sum(sources.decides(False, f"name {i}") for i in range(2_000))

    assert decided <= 250
    assert len(sources.by_source) <= SOURCES + 1


def test_a_loop_without_labels_hears_everybody() -> None:
    sources = Sources()

    assert all(sources.decides(False, "desk") for _ in range(1_000))


def test_a_loop_that_lives_by_feedback_goes_on_hearing_it_beside_some_labels() -> None:
    sources = Sources()
    for i in range(1_000):
        sources.decides(i % 3 == 0, "desk")

    assert all(sources.decides(False, "desk") for _ in range(100))


def test_with_few_labels_some_feedback_is_free() -> None:
    sources = labelled(20)

    assert sum(sources.decides(False, "desk") for _ in range(100)) == FREE


def test_more_labels_make_room_for_more_feedback() -> None:
    sources = labelled(1_000)
    while sources.decides(False, "desk"):
        pass

    for _ in range(40):
        sources.decides(True, None)

    assert sum(sources.decides(False, "desk") for _ in range(10)) == 2
