"""What monitoring needs to remember: a store inside the open unit of work, and a reader for the doors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from everloop_monitoring.domain.loop import Fold, Known, Work
from everloop_monitoring.domain.timeline import Happening

Kind = Literal["event", "prediction", "outcome", "dead_letter", "version"]


@dataclass(frozen=True, slots=True)
class Sighting:
    """An id of one kind was seen in a loop's records; seeing it again counts nothing."""

    loop: str
    kind: Kind
    id: str


class Projections(Protocol):
    """What monitoring writes, inside the open unit of work: visible to later calls, gone if it rolls back.

    Each method may await the database, is called once or twice a batch, and is idempotent by id. Raises
    Unavailable while the database cannot be reached or is full.
    """

    async def count(self, sightings: Sequence[Sighting]) -> dict[tuple[str, Kind], tuple[int, int]]:
        """Count the ids not seen before; the totals before and after of whatever grew."""

    async def recall(self, loop: str, prediction_ids: Iterable[str]) -> tuple[Work, dict[str, Known]]:
        """The loop's state, new where there is none, and what is kept of these outcomes."""

    async def keep(self, loop: str, fold: Fold, champion: str, at: datetime) -> None:
        """Keep what a fold changed and added, under this champion at this time."""

    async def tell(self, happenings: Sequence[Happening]) -> None:
        """Put these on the timeline, each id once."""


class Reports(Protocol):
    """What the doors read, as committed; every answer is ready for JSON."""

    async def totals(self, loop: str) -> dict[str, int]:
        """Distinct ids by kind of sighting and kind of happening; what never occurred is absent."""

    async def work(self, loop: str) -> Work | None: ...
    async def versions(self, loop: str, limit: int) -> list[dict[str, Any]]: ...
    async def happenings(self, loop: str, kinds: Sequence[str] | None, limit: int) -> list[Happening]:
        """The last `limit`, oldest first; `kinds` None for all."""

    async def series(self, loop: str, limit: int) -> list[dict[str, Any]]: ...
