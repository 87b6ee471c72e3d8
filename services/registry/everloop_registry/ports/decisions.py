"""What decisions about loops need from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from everloop_models.formats.onnx.interface import GivenInterface
from everloop_models.intake import CheckedModel, FeatureNames
from everloop_registry.domain.decision_log import DecisionContext, DecisionLog
from everloop_registry.domain.four_eyes import LineOrigin
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.origins import RunOrigin
from everloop_registry.domain.spec_diff import SpecLine
from everloop_registry.domain.team_use import TeamUse
from everloop_registry.domain.working_state import SubstituteVersion
from everloop_schemas.envelope import Fields
from everloop_schemas.erasure import ErasureConfirmed, ErasureDecided
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import Decided, VersionRegistered
from everloop_schemas.training import ModelTrainedData, StoredModel
from everloop_shared.errors import FieldError


class DecisionStore(Protocol):
    """Stores the decision logs of all loops. Reads and writes belong to the open unit of work and may block on it."""

    async def open(self, loop: str, context: DecisionContext) -> DecisionLog:
        """The loop's decision log; its `state` is None for a loop that nobody has applied."""

    async def save(self, decision_log: DecisionLog) -> None:
        """Store new decisions, fold and working state. Raises Conflict if another replica wrote meanwhile."""

    async def model(self, loop: str, version: str) -> ModelTrainedData | None:
        """A registered version, None for one that is not."""

    async def is_judged(self, loop: str, version: str) -> bool:
        """Whether this version was registered or refused before."""

    async def count_decided_since(self, loop: str, kind: type[Decided], moment: datetime) -> int:
        """How many decisions of a kind were made about a loop since a moment."""

    async def count_loops(self) -> tuple[int, int]:
        """How many loops exist, and how many ever did."""

    async def team_use(self, team: str) -> TeamUse:
        """What a team has."""

    async def line_origin(self, loop: str, line: str) -> LineOrigin:
        """How a line came to be, and by whom."""

    async def spec_lines(self, loop: str, life: int) -> list[SpecLine]:
        """The lines that models of the spec have got in this lifetime of a loop, oldest first."""

    async def has_loop(self, loop: str) -> bool:
        """Whether a loop of this name exists or ever did."""

    async def registered_as(self, loop: str, name: str) -> list[VersionRegistered]:
        """The registrations of versions whose lines begin with this name, oldest first, of all lifetimes."""

    async def specs(self, loop: str) -> list[LoopSpec]:
        """The spec of every revision, oldest first."""

    async def erasures(self, loop: str, entity: str) -> list[ErasureDecided | ErasureConfirmed]:
        """The decisions about erasures of an entity, oldest first."""


class LoopReader(Protocol):
    """Reads what is committed, outside any unit of work, for HTTP queries."""

    async def team_uses(self) -> dict[str, TeamUse]:
        """What every team has that has loops."""

    async def loops(self, deleted: bool = False) -> list[Loop]:
        """Every loop as it is now, by name: those that exist, or those that were deleted."""

    async def loop(self, name: str) -> Loop | None:
        """One loop as it is now."""

    async def waiting_for_approval(self) -> list[str]:
        """The names of the loops whose candidate waits for an approval."""

    async def erasures(self, loop: str, entity: str) -> list[ErasureDecided | ErasureConfirmed]:
        """The decisions about erasures of an entity, oldest first."""

    async def substitutes(self, name: str) -> dict[str, SubstituteVersion]:
        """By instance, the version that it serves in place of the champion."""

    async def wires(self, loop: str, until: datetime | None = None, kind: str | None = None) -> list[bytes]:
        """A loop's decisions as they are on the wire, oldest first: up to a moment, of one type."""


class OriginReader(Protocol):
    """Reads what is committed about where versions came from, for HTTP queries."""

    async def of_version(self, loop: str, version: str) -> RunOrigin | None:
        """The run of a version, with this version alone; None for one that is not registered."""

    async def of_run(self, loop: str, run: str, below: int | None, limit: int) -> RunOrigin | None:
        """A run with its newest versions below a number; None for one that this loop has not."""

    async def of_cause(self, loop: str, causationid: str, limit: int) -> list[RunOrigin]:
        """The first runs that an event led to, oldest first, each with its newest versions."""


class SpecChecks(Protocol):
    """Checks whether features and models of a spec can be built, and whether an event costs no more than allowed.

    The computation happens outside the event loop.
    """

    async def check(self, spec: LoopSpec) -> list[FieldError]:
        """Everything that is wrong, by dotted path, with the fix. Raises Overloaded."""


class ArtifactChecks(Protocol):
    """The contract checks of a trained version: size, sha256, signature, loads, finite predictions."""

    async def refusal(self, model: ModelTrainedData, specs: Sequence[LoopSpec]) -> str | None:
        """Why the version cannot be served, None where it can. Raises Unavailable while the store is away."""


class ModelIntake(Protocol):
    """Takes in models that were trained elsewhere. The computation happens outside the event loop."""

    async def check(
        self,
        data: bytes,
        given: GivenInterface,
        spec: LoopSpec,
        features: FeatureNames,
        samples: Sequence[Fields],
        weights: Mapping[str, bytes] | None = None,
    ) -> CheckedModel:
        """The model as it can be served on a loop with these features; `weights` are files beside it, by name.

        Raises ModelRefused and Overloaded.
        """

    async def put(self, loop: str, version: str, model: CheckedModel) -> StoredModel:
        """Store it under a version's name; idempotent. Raises Unavailable."""
