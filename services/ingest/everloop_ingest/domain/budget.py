"""A bound on what is in hand at one time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from everloop_shared.errors import Overloaded


class Budget:
    """`limit` units that requests take and give back; what does not fit is refused at once, never queued."""

    def __init__(self, limit: int, unit: str) -> None:
        self.limit = limit
        self.used = 0
        self._unit = unit

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Hold `amount` units for a while; raises Overloaded when they do not fit beside the others.

        An amount over the whole limit is let in when it is alone: it could never fit otherwise.
        """
        if self.used and self.used + amount > self.limit:
            in_hand = f"{self.used:,} {self._unit} are in hand, the limit is {self.limit:,}"
            raise Overloaded(f"{in_hand}; send it again later")
        self.used += amount
        try:
            yield
        finally:
            self.used -= amount
