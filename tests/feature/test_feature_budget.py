"""Entities are limited by what they take, too: large windows go before many small ones would."""

from __future__ import annotations

from random import Random

from everloop_feature.recency import KEY_BYTES, Recency


def test_the_bytes_of_a_partition_stay_within_the_limit_whatever_comes() -> None:
    recency, random, limit = Recency(), Random(1), 1_000_000

    for n in range(2_000):
        recency.touch(0, f"shop/{random.randrange(300)}", random.randrange(50_000))
        for key in recency.excess(0, 100, limit, 500):
            recency.discard(0, key)
        assert recency.bytes(0) <= limit, n
        assert recency.count(0) <= 100

    for _, key in recency.of("shop"):
        recency.discard(0, key)
    assert (recency.bytes(0), recency.count(0)) == (0, 0)


def test_only_as_many_go_as_have_to_and_the_oldest_first() -> None:
    recency = Recency()
    for n in range(5):
        recency.touch(0, f"shop/{n}", 10_000 - KEY_BYTES)
    recency.touch(0, "shop/0", 10_000 - KEY_BYTES)

    assert recency.excess(0, 10, 35_000, 500) == ["shop/1", "shop/2"]
    assert recency.excess(0, 2, 10**9, 500) == ["shop/1", "shop/2", "shop/3"]
    assert recency.excess(0, 5, 50_000, 500) == []
