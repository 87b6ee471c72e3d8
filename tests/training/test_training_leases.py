"""Leases: who works on a run, until when, and how often it is offered."""

from __future__ import annotations

from datetime import timedelta

from tests.builders.loops import NOW

from everloop_training.domain.leases import MAX_LEASES, Leases

LEASE_S, LONGEST_S = 60.0, 150.0


def leases() -> Leases:
    return Leases(LEASE_S, LONGEST_S)


def after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def test_a_run_that_was_taken_is_free_again_once_its_lease_has_ended() -> None:
    given = leases()

    given.give("r", "pytorch", "a", NOW)

    assert not given.is_free("r", NOW + after(59))
    assert given.is_free("r", NOW + after(60))
    assert given.give("r", "pytorch", "b", NOW + after(60)).number == 2


def test_a_lease_is_renewed_by_its_holder_before_it_ends_and_not_for_ever() -> None:
    given = leases()
    given.give("r", "pytorch", "a", NOW)

    stranger = given.renew("r", "b", NOW + after(30))
    ends = []
    for seconds in (50, 100, 140):
        renewed = given.renew("r", "a", NOW + after(seconds))
        assert renewed is not None
        ends.append((renewed.until - NOW).total_seconds())
    late = given.renew("r", "a", NOW + after(150))

    assert (stranger, late) == (None, None)
    assert ends == [110, 150, 150]


def test_the_holder_of_an_earlier_lease_renews_nothing() -> None:
    given = leases()
    given.give("r", "pytorch", "a", NOW)
    given.give("r", "pytorch", "b", NOW + after(60))

    assert given.renew("r", "a", NOW + after(61)) is None


def test_a_released_run_is_free_at_once_and_its_lease_counts() -> None:
    given = leases()
    given.give("r", "pytorch", "a", NOW)

    released = given.release("r", "a", NOW + after(5))

    assert released is not None
    assert given.is_free("r", NOW + after(5))
    assert given.give("r", "pytorch", "b", NOW + after(5)).number == 2


def test_after_the_last_lease_the_run_is_given_up() -> None:
    given, now = leases(), NOW
    for number in range(MAX_LEASES):
        assert given.is_free("r", now)
        given.give("r", "pytorch", str(number), now)
        assert given.given_up(now) == []
        now += after(LEASE_S)

    assert not given.is_free("r", now)
    assert [lease.run for lease in given.given_up(now)] == ["r"]


def test_leases_of_runs_that_have_ended_are_forgotten() -> None:
    given = leases()
    given.give("r", "pytorch", "a", NOW)
    given.give("s", "pytorch", "b", NOW)

    given.retain({"s"})

    assert len(given) == 1
    assert given.find("r") is None
