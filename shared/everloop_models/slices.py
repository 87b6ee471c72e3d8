"""Long work on the objects of a model, in slices, so that other threads get their turn in between."""

from __future__ import annotations

import gc
import sys
import threading
import time

PAUSE_S = 0.001
OBJECTS_PER_SLICE = 3_000
"""Objects that are freed between two pauses: one to two milliseconds."""
_OURS = 2
"""The references to an object that only `dismantle` holds: its variable, and the argument of `getrefcount`."""


def give_way() -> None:
    """Let other threads run; in the main thread nobody waits.

    After `sleep(0)` Python's lock is mostly taken back before a thread that waits for it has woken up.
    """
    if threading.current_thread() is not threading.main_thread():
        time.sleep(PAUSE_S)


def release(held: list[object]) -> None:
    """Give up references bit by bit."""
    while held:
        del held[-OBJECTS_PER_SLICE:]
        give_way()


def dismantle(owners: list[object]) -> None:
    """Free objects and all that only they refer to, bit by bit; takes them out of the list.

    Freeing a forest at once takes 150 ms, in which no other thread runs. An object is freed here only after everything
    it refers to has been noted, so that nothing else is freed with it. What others refer to as well stays.
    """
    while owners:
        ending = _ending(owners)
        inside = gc.get_referents(*ending)
        del ending
        owners += filter(gc.is_tracked, inside)
        del inside
        give_way()


def _ending(owners: list[object]) -> list[object]:
    """The next objects that nobody else refers to; takes these and others out of the list."""
    ending: list[object] = []
    for _ in range(min(OBJECTS_PER_SLICE, len(owners))):
        one = owners.pop()
        if sys.getrefcount(one) == _OURS:
            ending.append(one)
    return ending
