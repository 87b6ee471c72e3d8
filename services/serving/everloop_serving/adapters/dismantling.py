"""Frees the memory of a replaced model bit by bit, so that no request waits for a million objects to be freed."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence

OBJECTS_PER_SLICE = 1_000
"""Objects that are freed before other threads get their turn: half a millisecond."""
RELEASE_POLLS, RELEASE_POLL_S = 200, 0.01
"""How often, and at which interval in seconds, it is checked whether requests in progress still use the model."""
_OURS = 2
"""The references to an object that only `_free` holds: its variable, and the argument of `getrefcount`."""


def dismantle(owners: list[object]) -> None:
    """Free objects and all that only they refer to; takes them out of the list. Blocks: runs in a thread.

    Freeing a forest at once takes 100 ms, in which no other thread runs. An object is freed here only after everything
    it refers to has been noted, so that nothing else is freed with it. What others refer to as well stays.
    """
    for _ in range(RELEASE_POLLS):
        if all(count <= 2 * _OURS for count in _reference_counts(owners)):
            break
        time.sleep(RELEASE_POLL_S)
    left: list[object] = []
    while owners:
        left.append(owners.pop())
        _free(left)


def _reference_counts(owners: Sequence[object]) -> list[int]:
    return [sys.getrefcount(owner) for owner in owners]


def _free(left: list[object]) -> None:
    freed = 0
    while left:
        one = left.pop()
        if sys.getrefcount(one) == _OURS:  # this is its end
            left += filter(gc.is_tracked, gc.get_referents(one))
        freed += 1
        if freed % OBJECTS_PER_SLICE == 0:
            time.sleep(0)
