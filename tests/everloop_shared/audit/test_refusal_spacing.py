"""Refusals get a few records a second, and what is left out is counted, within bounds."""

from __future__ import annotations

from everloop_shared.audit.spacing import MOST_ADDRESSES, OTHERS, PER_ADDRESS, PER_SECOND, RefusalSpacing


def test_an_address_gets_a_few_records_a_second_and_then_says_how_many_it_left_out() -> None:
    spacing = RefusalSpacing()

    first = [spacing.admit("10.0.0.1", 5.0 + n / 100) for n in range(20)]
    other = spacing.admit("10.0.0.2", 5.5)
    later = spacing.admit("10.0.0.1", 6.0)

    assert first == [0] * PER_ADDRESS + [None] * (20 - PER_ADDRESS)
    assert (other, later, spacing.left_out) == (0, 20 - PER_ADDRESS, 0)


def test_what_was_left_out_of_an_address_that_is_silent_since_is_collected_once() -> None:
    spacing = RefusalSpacing()
    for _ in range(10):
        spacing.admit("10.0.0.1", 5.0)

    in_that_second, after, again = spacing.collect(5.9), spacing.collect(6.0), spacing.collect(7.0)

    assert in_that_second == again == []
    assert after == [("10.0.0.1", 10 - PER_ADDRESS)]


def test_many_addresses_share_one_limit_and_none_is_forgotten_without_its_number() -> None:
    spacing = RefusalSpacing()
    addresses = [f"10.{n >> 8}.{n & 255}.1" for n in range(3 * MOST_ADDRESSES)]

    admitted = [spacing.admit(address, 5.0) for address in addresses]
    collected = [one for second in range(6, 100) for one in spacing.collect(float(second))]

    assert admitted.count(0) == PER_SECOND
    assert sum(count for _, count in collected) == len(addresses) - PER_SECOND
    assert dict(collected)[OTHERS] >= len(addresses) - MOST_ADDRESSES - PER_SECOND
    assert len(collected) <= MOST_ADDRESSES + 1, "that of the forgotten ones included"
