"""Recognises ids that were seen lately, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

REMEMBERED_IDS = 1_000
"""At least so many of the latest ids are recognised, and at most twice as many."""


@dataclass(slots=True)
class SeenIds:
    """The latest ids as checksums, in two generations: the older is dropped when the younger is full.

    Two ids have the same checksum once in millions of records; then one of them is not counted.
    """

    younger: set[int] = field(default_factory=set)
    older: set[int] = field(default_factory=set)
    duplicates: int = 0

    def add(self, id: str) -> bool:
        """Remember an id; False for one that was seen lately, which is counted."""
        checksum = crc32(id.encode())
        if checksum in self.younger or checksum in self.older:
            self.duplicates += 1
            return False
        self.younger.add(checksum)
        if len(self.younger) >= REMEMBERED_IDS:
            self.younger, self.older = set(), self.younger
        return True
