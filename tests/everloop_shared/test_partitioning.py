"""The partitions of keys: those of every other client."""

from __future__ import annotations

from random import Random

import pytest
from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]

from everloop_shared.messaging.kafka.partitioning import partition_of, partitions_of

LENGTHS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 15, 16, 36, 43, 44, 300)


@pytest.mark.parametrize("count", [1, 6, 7, 100, 1_500])
def test_each_key_of_many_has_the_partition_that_aiokafka_and_java_give_it(count: int) -> None:
    random = Random(count)
    for lengths in (LENGTHS, (43,)):
        keys = [random.randbytes(random.choice(lengths)) for _ in range(count)]

        assert partitions_of(keys, 13) == [(murmur2(key) & 0x7FFFFFFF) % 13 for key in keys]
        assert [partition_of(key, 4) for key in keys] == partitions_of(keys, 4)
