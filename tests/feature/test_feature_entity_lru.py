"""Entities are limited by their bytes, too: few with large windows reach the limit before many with small ones."""

from __future__ import annotations

from random import Random

from everloop_feature.domain.entity_lru import KEY_BYTES, EntityLru


def test_the_bytes_of_a_partition_stay_within_the_limit_whatever_comes() -> None:
    lru, random, limit = EntityLru(), Random(1), 1_000_000

    for n in range(2_000):
        lru.touch(0, f"shop/{random.randrange(300)}", random.randrange(50_000))
        for key in lru.excess(0, 100, limit, 500):
            lru.discard(0, key)
        assert lru.bytes(0) <= limit, n
        assert lru.count(0) <= 100

    for _, key in lru.keys_of("shop"):
        lru.discard(0, key)
    assert (lru.bytes(0), lru.count(0)) == (0, 0)


def test_no_more_than_necessary_are_evicted_and_the_oldest_first() -> None:
    lru = EntityLru()
    for n in range(5):
        lru.touch(0, f"shop/{n}", 10_000 - KEY_BYTES)
    lru.touch(0, "shop/0", 10_000 - KEY_BYTES)

    assert lru.excess(0, 10, 35_000, 500) == ["shop/1", "shop/2"]
    assert lru.excess(0, 2, 10**9, 500) == ["shop/1", "shop/2", "shop/3"]
    assert lru.excess(0, 5, 50_000, 500) == []
