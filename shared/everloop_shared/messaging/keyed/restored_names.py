"""Which names a changelog has brought so far, so that the storage is not asked for all the others (decision 0172)."""

from __future__ import annotations

BITS_PER_NAME = 16
MAX_BITS = 1 << 29


class RestoredNames:
    """A Bloom filter of the names of a partition, from a time at which nothing of it was stored.

    Of two hundred names that are new, it takes one for known at most, and a known one never for new. Asking the
    storage for a new name costs ten times as much.
    """

    def __init__(self, expected: int) -> None:
        bits = min(MAX_BITS, 1 << (max(1, expected) * BITS_PER_NAME).bit_length())
        self._bits, self._mask = bytearray(bits // 8), bits - 1

    def add(self, name: bytes) -> bool:
        """Add a name; whether it may have been added before."""
        bits, found = self._bits, True
        both = hash(name)
        for place in (both & self._mask, (both >> 32) & self._mask):
            bit = 1 << (place & 7)
            if not bits[place >> 3] & bit:
                bits[place >> 3] |= bit
                found = False
        return found
