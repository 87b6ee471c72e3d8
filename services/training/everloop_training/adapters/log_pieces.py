"""How many offsets of the log one read takes: as many as hold about the same number of bytes each time."""

from __future__ import annotations

PIECE_BYTES = 2_000_000
"""What one read of the log holds in memory, about; records of other loops in the partition are among it."""
MOST_OFFSETS = 5_000


def next_count(count: int, read: int, size: int) -> int:
    """How many offsets to read next, where `count` were to be read, and `read` of them held `size` bytes.

    At most twice as many as before, because the next records may be larger.
    """
    fitting = PIECE_BYTES * read // size if size else MOST_OFFSETS
    return max(1, min(fitting, 2 * count, MOST_OFFSETS))
