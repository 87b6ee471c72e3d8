"""The refresh check: worse than noise on the last hundred outcomes, or not."""

from __future__ import annotations

from random import Random

from everloop_registry.domain.recent_losses import MIN_COMPARED_OUTCOMES, RecentLosses, regression_reason


def recent(line: list[float], served: list[float]) -> RecentLosses:
    """Losses on the same outcomes."""
    made = RecentLosses()
    for offset, (a, b) in enumerate(zip(line, served, strict=True)):
        made.add_line_loss(offset, a)
        made.add_served_loss(offset, b)
    return made


def reason_alone(recent: RecentLosses) -> str | None:
    """Why the line is worse, where no other line served."""
    return regression_reason(recent.gaps({}))


def test_only_outcomes_that_both_predicted_are_evidence() -> None:
    assert len(recent([1.0] * 29, [0.0] * 29).gaps({})) == 29 < MIN_COMPARED_OUTCOMES
    assert RecentLosses(line={1: 1.0}, served={2: 0.0}).gaps({}) == []


def test_where_no_snapshot_of_the_line_predicted_it_is_compared_with_what_was_served() -> None:
    gaps = RecentLosses(line={1: 1.0, 2: 1.0, 3: 0.0}, served={3: 0.5}).gaps({1: 0.0, 3: 1.0})

    assert gaps == [1.0, -0.5]


def test_the_reason_for_a_clearly_worse_line_has_figures() -> None:
    reason = reason_alone(recent([1.0] * 40 + [0.0] * 60, [0.0] * 100))

    assert reason is not None
    assert "0.400" in reason


def test_equal_lines_are_rarely_called_worse() -> None:
    random = Random(3)
    runs = [[[float(random.random() < 0.3) for _ in range(100)] for _ in range(2)] for _ in range(300)]

    refused = sum(reason_alone(recent(a, b)) is not None for a, b in runs)

    assert refused <= 300 * 0.03


def test_only_the_last_hundred_that_both_have_count() -> None:
    old_and_bad, new_and_good = [1.0] * 150, [0.0] * 100

    assert reason_alone(recent(old_and_bad + new_and_good, [0.0] * 250)) is None


def test_memory_is_bounded() -> None:
    made = recent([0.0] * 1000, [0.0] * 1000)

    assert len(made.line) == len(made.served) == 200


def test_losses_outside_their_bounds_count_as_the_nearest_inside() -> None:
    recent = RecentLosses()
    for offset in range(100):
        recent.add_line_loss(offset, 1.7976931348623157e308 * (-1) ** offset)
        recent.add_served_loss(offset, 0.5)

    assert reason_alone(recent) is None
