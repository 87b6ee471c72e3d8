"""What serving needs from the world."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from everloop_schemas.envelope import Event
from everloop_schemas.registry import LoopState
from everloop_serving.domain.predict import Live, Said


class Models(Protocol):
    """The versions in memory. Nothing here blocks or raises."""

    def live(self, loop: str) -> Live | None:
        """What answers for a loop right now; None where the loop is unknown."""

    def deleted(self, loop: str) -> bool:
        """Whether a loop was there and is gone."""

    def want(self, state: LoopState) -> None:
        """Load what this state names, in the background, and let it answer as soon as it is here.

        A state of a deleted loop, or of a new life, lets go of all that was loaded before.
        """

    async def settled(self, loop: str, timeout_s: float) -> None:
        """Wait until nothing of this loop is being loaded, or the time is over."""

    def fell(self, live: Live, version: str, reason: str) -> None:
        """Tell the registry, once, that serving fell back from this version."""


class Spool(Protocol):
    """Events on their way to the bus, on local disk."""

    def append(self, events: Sequence[Event]) -> None:
        """Keep the events, together or not at all: they survive this process.

        Raises SpoolFull or SpoolUnwritable.
        """

    async def synced(self) -> None:
        """Wait until what was appended survives a power loss too, where that is asked for; raises SpoolUnwritable."""


class Tail(Protocol):
    """The end of the topic of our own predictions."""

    def covers(self, partition: int) -> bool:
        """Whether the tail has been read since this partition of the features was assigned."""

    async def cover(self, partition: int, since: datetime) -> None:
        """Remember the predictions put on the topic since then; idempotent.

        May take seconds; raises Unavailable where the bus is away.
        """


class Meter(Protocol):
    """Counts what is served."""

    def predicted(self, loop: str, door: str, said: Said) -> None: ...
    def reused(self, loop: str, door: str) -> None: ...
    def taken(self, loop: str, door: str) -> None: ...
