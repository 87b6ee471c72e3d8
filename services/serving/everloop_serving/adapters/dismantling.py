"""Frees the memory of a replaced model once no request uses it, so that no request waits for a million objects."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from everloop_models import slices

RELEASE_POLLS, RELEASE_POLL_S = 200, 0.01
"""How often, and at which interval in seconds, it is checked whether requests in progress still use the model."""
_OURS = 4
"""References that are not those of a request: the list, a variable, and the argument of `getrefcount`; one to spare."""


def dismantle(owners: list[object]) -> None:
    """Free objects and all that only they refer to; takes them out of the list. Blocks: runs in a thread."""
    for _ in range(RELEASE_POLLS):
        if all(count <= _OURS for count in _reference_counts(owners)):
            break
        time.sleep(RELEASE_POLL_S)
    slices.dismantle(owners)


def _reference_counts(owners: Sequence[object]) -> list[int]:
    return [sys.getrefcount(owner) for owner in owners]
