"""The light gate: worse than noise on the last hundred, or not."""

from __future__ import annotations

from random import Random

from everloop_registry.domain.refresh import ENOUGH, Recent, worse


def recent(line: list[float], served: list[float]) -> Recent:
    """Losses on the same outcomes."""
    made = Recent()
    for offset, (a, b) in enumerate(zip(line, served, strict=True)):
        made.learned(offset, a)
        made.logged(offset, b)
    return made


def said(recent: Recent) -> str | None:
    """What is said of it where nobody else served."""
    return worse(recent.gaps({}))


def test_only_outcomes_that_both_predicted_are_evidence() -> None:
    assert len(recent([1.0] * 29, [0.0] * 29).gaps({})) == 29 < ENOUGH
    assert Recent(line={1: 1.0}, served={2: 0.0}).gaps({}) == []


def test_where_no_snapshot_of_the_line_predicted_it_is_judged_by_what_was_served() -> None:
    gaps = Recent(line={1: 1.0, 2: 1.0, 3: 0.0}, served={3: 0.5}).gaps({1: 0.0, 3: 1.0})

    assert gaps == [1.0, -0.5]


def test_a_line_clearly_worse_is_told_with_figures() -> None:
    reason = said(recent([1.0] * 40 + [0.0] * 60, [0.0] * 100))

    assert reason is not None
    assert "0.400" in reason


def test_equal_lines_are_rarely_called_worse() -> None:
    random = Random(3)
    runs = [[[float(random.random() < 0.3) for _ in range(100)] for _ in range(2)] for _ in range(300)]

    refused = sum(said(recent(a, b)) is not None for a, b in runs)

    assert refused <= 300 * 0.03


def test_only_the_last_hundred_that_both_have_count() -> None:
    old_and_bad, new_and_good = [1.0] * 150, [0.0] * 100

    assert said(recent(old_and_bad + new_and_good, [0.0] * 250)) is None


def test_memory_is_bounded() -> None:
    made = recent([0.0] * 1000, [0.0] * 1000)

    assert len(made.line) == len(made.served) == 200


def test_losses_outside_their_bounds_count_as_the_nearest_inside() -> None:
    recent = Recent()
    for offset in range(100):
        recent.learned(offset, 1.7976931348623157e308 * (-1) ** offset)
        recent.logged(offset, 0.5)

    assert said(recent) is None
