"""Pauses between attempts: doubling up to a limit, with chance in them, and an end where a deadline is set."""

from __future__ import annotations

from itertools import islice

from everloop_shared.backoff import Attempts, Backoff


def test_pauses_double_up_to_the_longest() -> None:
    assert list(islice(Backoff(0.5, 3.0, jitter=0.0).pauses(), 5)) == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_jitter_shortens_a_pause_by_at_most_its_share() -> None:
    pauses = [Backoff(1.0, 1.0, jitter=0.25).pause_s(1) for _ in range(200)]

    assert all(0.75 <= pause <= 1.0 for pause in pauses)
    assert len(set(pauses)) > 1


def test_many_failures_do_not_overflow() -> None:
    assert Backoff(0.1, 5.0, jitter=0.0).pause_s(1_000_000) == 5.0


def test_attempts_end_where_the_next_would_come_after_the_deadline() -> None:
    now = 0.0
    attempts = Attempts(Backoff(1.0, 8.0, jitter=0.0), 4.0, lambda: now)

    pauses = [attempts.pause_s()]
    now = 1.0
    pauses.append(attempts.pause_s())
    now = 3.0
    pauses.append(attempts.pause_s())

    assert pauses == [1.0, 2.0, None]


def test_attempts_wait_at_least_as_long_as_the_other_side_asks() -> None:
    assert Attempts(Backoff(0.1, 5.0), 60.0, lambda: 0.0).pause_s(at_least_s=7.0) == 7.0
