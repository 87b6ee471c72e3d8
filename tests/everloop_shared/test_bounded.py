"""A mapping that forgets by entries and by bytes."""

from __future__ import annotations

from everloop_shared.bounded import ENTRY_BYTES, Bounded


def test_large_values_are_evicted_by_bytes_and_small_ones_by_number() -> None:
    kept = Bounded[str, str](entries=3, limit=10_000)

    for n in range(4):
        kept.put(f"small{n}", "x", 1)
    assert list(kept) == ["small1", "small2", "small3"]

    kept.put("large", "y", 9_000)
    assert list(kept) == ["small2", "small3", "large"]
    assert kept.bytes == 9_002 + 3 * ENTRY_BYTES

    kept.put("larger", "z", 9_500)
    assert (list(kept), kept.bytes) == (["larger"], 9_500 + ENTRY_BYTES)


def test_the_byte_count_is_that_of_the_stored_values() -> None:
    kept = Bounded[int, bytes](entries=50, limit=5_000_000)

    for n in range(1_000):
        size = (n * 7919) % 300_000
        kept.put(n % 80, b"", size)
        assert kept.bytes <= 5_000_000
        assert len(kept) <= 50

    assert kept.bytes == sum(kept.size(key) + ENTRY_BYTES for key in kept)
    for key in kept:
        kept.discard(key)
    assert (kept.bytes, len(kept)) == (0, 0)


def test_a_value_larger_than_the_limit_is_not_stored() -> None:
    kept = Bounded[str, str](entries=3, limit=1_000)

    kept.put("huge", "x", 2_000)

    assert (len(kept), kept.bytes) == (0, 0)


def test_put_first_evicts_nothing() -> None:
    kept = Bounded[str, str](entries=2, limit=10_000)
    kept.put("new", "x", 1_000)

    assert kept.put_first("old", "x", 1_000)
    assert not kept.put_first("older", "x", 1_000)
    assert list(kept) == ["old", "new"]
