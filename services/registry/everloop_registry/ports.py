"""What the registry needs from outside."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from everloop_registry.domain.ledger import Cause, Ledger
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.work import Instead
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import Decided
from everloop_schemas.training import ModelTrainedData
from everloop_shared.errors import FieldError


class Book(Protocol):
    """Where the ledgers of all loops lie. Reads and writes go into the open unit of work and may block on it."""

    async def open(self, loop: str, cause: Cause) -> Ledger:
        """The loop's ledger; its `loop` is None for one that nobody has applied."""

    async def save(self, ledger: Ledger) -> None:
        """Keep what was decided, the fold, and the working state. Raises Conflict if another wrote meanwhile."""

    async def model(self, loop: str, version: str) -> ModelTrainedData | None:
        """A registered version, None for one that is not."""

    async def judged(self, loop: str, version: str) -> bool:
        """Whether this version was registered or refused before."""

    async def decided_since(self, loop: str, kind: type[Decided], moment: datetime) -> int:
        """How many decisions of a kind were taken about a loop since a moment."""

    async def loops(self) -> tuple[int, int]:
        """How many loops there are, and how many there ever were."""

    async def named(self, loop: str) -> bool:
        """Whether a loop of this name was ever there."""

    async def specs(self, loop: str) -> list[LoopSpec]:
        """Every revision's spec, oldest first."""


class Reader(Protocol):
    """Reads what is committed, outside any unit of work, for the doors."""

    async def loops(self, deleted: bool = False) -> list[Loop]:
        """Every loop as it is now, by name: those that are there, or those that were deleted."""

    async def loop(self, name: str) -> Loop | None:
        """One loop as it is now."""

    async def unserved(self, name: str) -> dict[str, Instead]:
        """The instances that do not serve the champion, and what they serve instead."""

    async def wires(self, loop: str, until: datetime | None = None, kind: str | None = None) -> list[bytes]:
        """A loop's decisions as they are on the wire, oldest first: up to a moment, of one type."""


class SpecChecks(Protocol):
    """Whether features and models of a spec can be built, and cost what an event may. Takes its time elsewhere."""

    async def check(self, spec: LoopSpec) -> list[FieldError]:
        """Everything that is wrong, by dotted path, with the fix. Raises Overloaded."""


class ArtifactChecks(Protocol):
    """The contract checks of a trained version: size, sha256, signature, loads, finite predictions."""

    async def refusal(self, model: ModelTrainedData, specs: Sequence[LoopSpec]) -> str | None:
        """Why the version cannot be served, None where it can. Raises Unavailable while the store is away."""
