"""What the registry does with a model that somebody submits: try it, store it, and register it as a version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from everloop_features import compile_features
from everloop_features.samples import sample_vectors
from everloop_learning.errors import LoopNotFound
from everloop_learning.version import Version
from everloop_models.intake import CheckedModel
from everloop_registry.domain.decision_log import DecisionLog
from everloop_registry.domain.submission import (
    SubmittedModel,
    SubmittedVersion,
    choose_version,
    count_recent_submissions,
    describe_version,
)
from everloop_registry.errors import Conflict, TooManyChanges
from everloop_registry.handlers.command_context import command_context, open_existing
from everloop_registry.handlers.commands import QUOTA_PERIOD, Quota
from everloop_registry.ports import DecisionStore, LoopReader, ModelIntake
from everloop_schemas.envelope import Event
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import VersionRegistered, VersionRegisteredData
from everloop_schemas.training import StoredModel
from everloop_shared.clock import Clock
from everloop_shared.commands import Actor, Command

SAMPLES = 20
"""Feature vectors on which a model is tried."""
TRIES = 3
"""A version's name may be taken by another submission while the model is stored."""


@dataclass
class SubmissionHandlers:
    """Takes models in, one at a time; each is tried and stored before a transaction is opened."""

    store: DecisionStore
    reader: LoopReader
    intake: ModelIntake
    partition_of: Callable[[str], int]
    clock: Clock
    quota: Quota = field(default_factory=Quota)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def require_loop(self, loop: str) -> LoopSpec:
        """The spec of a loop; raises LoopNotFound where it was never applied, or was deleted."""
        state = await self.reader.loop(loop)
        if state is None or state.deleted:
            raise LoopNotFound(loop, deleted=state is not None)
        return state.spec

    async def submit_model(self, command: Command, loop: str, submitted: SubmittedModel) -> SubmittedVersion:
        """Register a model as a version that challenges; the same model under the same name is the same version.

        Raises LoopNotFound, ModelRefused, TooManyChanges, Unavailable, Overloaded.
        """
        async with self._turn:
            registration = _Registration(self, loop, submitted, await self._check(loop, submitted))
            for _ in range(TRIES):
                await command.run(registration.choose_version)
                if registration.result is None:
                    stored = await self.intake.put(loop, str(registration.version), registration.checked)
                    await command.run(lambda actor: registration.decide(stored, actor))  # noqa: B023 - awaited at once
                if registration.result is not None:
                    return registration.result
        raise Conflict(f"others submit models named {submitted.name} to {loop} at the same time; try again")

    async def _check(self, loop: str, submitted: SubmittedModel) -> CheckedModel:
        spec, data = await self.require_loop(loop), submitted.data
        plan = compile_features(spec)
        if not isinstance(data, bytes):
            data = await asyncio.to_thread(data.read)
        samples = sample_vectors(spec, plan, SAMPLES)
        return await self.intake.check(data, submitted.given, spec, plan, samples, submitted.weights)


@dataclass
class _Registration:
    """One model on its way into the decision log; `result` is set once it is there."""

    handlers: SubmissionHandlers
    loop: str
    submitted: SubmittedModel
    checked: CheckedModel
    version: Version | None = None
    result: SubmittedVersion | None = None

    async def choose_version(self, actor: Actor) -> list[Event]:
        """Find the model where it is registered already; else choose the name of its version."""
        decision_log, earlier = await self._open(actor)
        if self.result is None:
            self.version = choose_version(decision_log, self.submitted.name, {d.data.model.line for d in earlier})
        return []

    async def decide(self, stored: StoredModel, actor: Actor) -> list[Event]:
        """Register the version, unless its name was taken meanwhile."""
        decision_log, earlier = await self._open(actor)
        version = self.version
        if self.result is not None or version is None or version.line in {d.data.model.line for d in earlier}:
            return []
        partition = self.handlers.partition_of(self.loop)
        model = describe_version(decision_log, version, self.submitted, self.checked, stored, partition)
        decision_log.working.record_run(model.line, model.run)
        decision_log.decide(VersionRegistered, model.version, VersionRegisteredData(model=model), model.run)
        await self.handlers.store.save(decision_log)
        self.result = SubmittedVersion(model, is_new=True)
        return decision_log.events_to_publish()

    async def _open(self, actor: Actor) -> tuple[DecisionLog, list[VersionRegistered]]:
        """The decision log, and the versions whose lines have the name; sets `result` if the model is one of them."""
        handlers, name = self.handlers, self.submitted.name
        decision_log = await open_existing(handlers.store, self.loop, command_context(handlers.clock, actor))
        earlier = await handlers.store.registered_as(self.loop, name)
        for decision in earlier:
            model = decision.data.model
            is_same = (model.reason, model.sha256, model.manifest.trainer) == ("submitted", self.checked.sha256, name)
            if is_same and decision.revision >= decision_log.loop.life:
                self.result = SubmittedVersion(model, is_new=False)
        limit = handlers.quota.changes_per_hour
        if self.result is None and count_recent_submissions(decision_log, QUOTA_PERIOD) >= limit:
            raise TooManyChanges(
                f"{limit} models were submitted to {self.loop} within an hour, the limit "
                "(EVERLOOP_REGISTRY_MAX_CHANGES_PER_HOUR); try again later"
            )
        return decision_log, earlier
