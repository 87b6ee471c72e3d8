"""The light gate: worse than noise on the last hundred, or not."""

from __future__ import annotations

from random import Random

from everloop_registry.domain.refresh import Recent


def recent(line: list[float], served: list[float]) -> Recent:
    """Losses on the same outcomes."""
    made = Recent()
    for offset, (a, b) in enumerate(zip(line, served, strict=True)):
        made.learned(offset, a)
        made.logged(offset, b)
    return made


def test_too_few_outcomes_say_nothing() -> None:
    assert recent([1.0] * 29, [0.0] * 29).worse() is None


def test_a_line_clearly_worse_is_told_with_figures() -> None:
    reason = recent([1.0] * 40 + [0.0] * 60, [0.0] * 100).worse()

    assert reason is not None
    assert "0.400" in reason


def test_equal_lines_are_rarely_called_worse() -> None:
    random = Random(3)
    runs = [[[float(random.random() < 0.3) for _ in range(100)] for _ in range(2)] for _ in range(300)]

    refused = sum(recent(a, b).worse() is not None for a, b in runs)

    assert refused <= 300 * 0.03


def test_only_the_last_hundred_that_both_have_count() -> None:
    old_and_bad, new_and_good = [1.0] * 150, [0.0] * 100

    assert recent(old_and_bad + new_and_good, [0.0] * 250).worse() is None


def test_memory_is_bounded() -> None:
    made = recent([0.0] * 1000, [0.0] * 1000)

    assert len(made.line) == len(made.served) == 200


def test_losses_outside_their_bounds_count_as_the_nearest_inside() -> None:
    recent = Recent()
    for offset in range(100):
        recent.learned(offset, 1.7976931348623157e308 * (-1) ** offset)
        recent.logged(offset, 0.5)

    assert recent.worse() is None
