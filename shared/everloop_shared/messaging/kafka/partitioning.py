"""The partition of a key: murmur2, as the Java client, aiokafka and Faust do it by default; many keys at once."""

from __future__ import annotations

import sys
from array import array
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from struct import unpack_from

SEED, FACTOR, WORD, POSITIVE = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF, 0x7FFFFFFF
FEW = 6
"""So many keys of one length are hashed one after the other."""


@lru_cache(4_096)  # entities recur, ids do not: a larger cache would hold 300 useless bytes for each
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key."""
    return (murmur2(key) & POSITIVE) % partitions


def partitions_of(keys: Sequence[bytes], partitions: int) -> list[int]:
    """The partition of each key, in a tenth of the time that many keys of the same length take one by one."""
    if len(keys) <= FEW:
        return [partition_of(key, partitions) for key in keys]
    found, by_length = [0] * len(keys), defaultdict[int, list[int]](list)
    for n, key in enumerate(keys):
        by_length[len(key)].append(n)
    for length, places in by_length.items():
        if len(places) <= FEW:
            hashes: Sequence[int] = [murmur2(keys[n]) for n in places]
        else:
            hashes = _hash_all([keys[n] for n in places], length)
        for n, number in zip(places, hashes, strict=True):
            found[n] = (number & POSITIVE) % partitions
    return found


def murmur2(key: bytes) -> int:
    """The hash of one key."""
    length = len(key)
    number = SEED ^ length
    for word in unpack_from(f"<{length >> 2}I", key):
        word = word * FACTOR & WORD
        number = (number * FACTOR ^ (word ^ word >> 24) * FACTOR) & WORD
    if length & 3:
        number = (number ^ int.from_bytes(key[length & ~3 :], "little")) * FACTOR & WORD
    number = (number ^ number >> 13) * FACTOR & WORD
    return number ^ number >> 15


def _hash_all(keys: Sequence[bytes], length: int) -> Sequence[int]:
    """The hashes of keys of one length.

    One large integer holds the state of all of them, 64 bits for each: a product of two words fits, so that one
    multiplication of Python multiplies them all.
    """
    count = len(keys)
    ones = _ones(count)
    words = ones * WORD
    numbers = ones * (SEED ^ length)
    columns = chain.from_iterable(_two_words(column, words) for column in _columns(keys, length))
    for _ in range(length >> 2):
        word = next(columns) * FACTOR & words
        word ^= word >> 24 & ones * 0xFF
        numbers = (numbers * FACTOR & words) ^ (word * FACTOR & words)
    if length & 3:
        numbers = (numbers ^ next(columns)) * FACTOR & words
    numbers = (numbers ^ (numbers >> 13 & ones * (WORD >> 13))) * FACTOR & words
    numbers ^= numbers >> 15 & ones * (WORD >> 15)
    return _array(numbers.to_bytes(8 * count, "little"))


def _columns(keys: Sequence[bytes], length: int) -> list[int]:
    """For every 8 bytes of the keys, these bytes of all keys as one integer; after the end of a key there are zeros."""
    padding = bytes(-length % 8)
    every = (length + 7) // 8
    lanes = array("Q", padding.join(keys) + padding)
    return [int.from_bytes(lanes[n::every].tobytes(), "little") for n in range(every)]


def _two_words(column: int, words: int) -> tuple[int, int]:
    return column & words, column >> 32 & words


@lru_cache(64)
def _ones(count: int) -> int:
    """A one in each of so many places of 64 bits."""
    return int.from_bytes((1).to_bytes(8, "little") * count, "little")


def _array(data: bytes) -> array[int]:
    numbers = array("Q", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
