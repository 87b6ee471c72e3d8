"""A limit on what requests hold at one time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from everloop_shared.errors import Overloaded


class InFlightLimit:
    """Up to `limit` units that requests hold for a while; what does not fit is refused at once, never queued."""

    def __init__(self, limit: int, unit: str) -> None:
        self.limit = limit
        self.in_flight = 0
        self._unit = unit

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Hold `amount` units for a while; raises Overloaded when they do not fit beside the others.

        An amount over the whole limit is accepted when nothing else is held: it could never fit otherwise.
        """
        if self.in_flight and self.in_flight + amount > self.limit:
            in_progress = f"{self.in_flight:,} {self._unit} are in progress, the limit is {self.limit:,}"
            raise Overloaded(f"{in_progress}; retry later")
        self.in_flight += amount
        try:
            yield
        finally:
            self.in_flight -= amount
