"""What the registry decides about the commands of people and applications."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from everloop_learning.errors import LoopNotFound
from everloop_learning.version import line_of
from everloop_registry.domain import rollout
from everloop_registry.domain.applied_spec import as_published, check_people, check_same_task
from everloop_registry.domain.approval import awaited_approval
from everloop_registry.domain.by_hand import version_to_promote
from everloop_registry.domain.decision_log import DecisionContext, DecisionLog
from everloop_registry.domain.four_eyes import require_other_eyes
from everloop_registry.domain.loop import MAX_KEPT_VERSIONS, Loop
from everloop_registry.domain.precondition import Precondition
from everloop_registry.domain.team_use import feature_cost, require_room
from everloop_registry.errors import (
    ArtifactCollected,
    Conflict,
    SpecRejected,
    TooManyChanges,
    TooManyLoops,
    VersionNotFound,
)
from everloop_registry.handlers.command_context import command_context, open_existing
from everloop_registry.ports import DecisionStore, SpecChecks
from everloop_schemas.approvals import CandidateApproved, CandidateApprovedData
from everloop_schemas.envelope import Event
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import (
    BASELINE,
    Decided,
    LoopApplied,
    LoopAppliedData,
    LoopDeleted,
    LoopDeletedData,
    LoopResumed,
    LoopResumedData,
    ModelPromoted,
    ModelRolledBack,
    ModelRolledBackData,
)
from everloop_shared.access.teams import TeamQuotas, without_quotas
from everloop_shared.clock import Clock
from everloop_shared.commands import ANONYMOUS, Actor

UNCONDITIONAL = Precondition()
QUOTA_PERIOD = timedelta(hours=1)
NAMES_PER_LOOP = 10
"""The limit of names ever used, as a multiple of the limit of loops: a deleted loop leaves its name and last state."""


@dataclass(frozen=True)
class Quota:
    """How many loops there may be, and how many decisions of one kind commands may cause about one within an hour."""

    loops: int = 1_000
    changes_per_hour: int = 100


class AdmittedSpec(NamedTuple):
    """A spec that may be applied, the loop's decision log, the loop if there is one, and what its team is told."""

    log: DecisionLog
    spec: LoopSpec
    existing: Loop | None
    owned: Mapping[str, Any] = {}

    @property
    def is_unchanged(self) -> bool:
        """Whether the loop has this spec."""
        return self.existing is not None and self.existing.spec == self.spec


@dataclass
class CommandHandlers:
    """One method per command; each is idempotent and returns the decisions to publish, then the loop's state."""

    store: DecisionStore
    specs: SpecChecks
    clock: Clock
    quota: Quota = field(default_factory=Quota)
    team_quotas: TeamQuotas = without_quotas

    async def check(self, spec: LoopSpec) -> None:
        """Try a spec out, outside any unit of work, as it takes a while; raises SpecRejected."""
        if errors := await self.specs.check(spec):
            raise SpecRejected("; ".join(f"{e.field}: {e.error}" for e in errors[:5]), errors)

    async def apply(self, spec: LoopSpec, precondition: Precondition = UNCONDITIONAL, *, actor: Actor) -> list[Event]:
        """Apply a checked spec: a new loop, a new revision, or nothing when it is unchanged; raises as `admit`."""
        admitted = await self.admit(spec, precondition, actor=actor)
        if admitted.is_unchanged:
            return []
        data = LoopAppliedData(spec=admitted.spec, **admitted.owned)
        admitted.log.decide(LoopApplied, spec.loop, data)
        return await self._close(admitted.log)

    async def admit(self, spec: LoopSpec, precondition: Precondition = UNCONDITIONAL, *, actor: Actor) -> AdmittedSpec:
        """What applying a checked spec begins with; decides nothing.

        Raises SpecRejected, PreconditionFailed, TooManyChanges, TooManyLoops and TeamQuotaReached.
        """
        spec = as_published(spec)
        check_people(spec, is_anonymous=actor.kind == ANONYMOUS.kind)
        decision_log = await self._open(spec.loop, actor)
        state = decision_log.state
        existing = None if state is None or state.deleted else state
        is_unchanged = existing is not None and existing.spec == spec
        precondition.require(existing.revision if existing else None, is_unchanged=is_unchanged)
        if is_unchanged:
            return AdmittedSpec(decision_log, spec, existing)
        if existing is not None:
            check_same_task(existing.spec, spec)
        await self._check_quota(spec.loop, LoopApplied, is_new=existing is None)
        owned = await self._check_team(existing, spec, actor)
        return AdmittedSpec(decision_log, spec, existing, owned)

    async def rollback(self, loop: str, reason: str, to: str | None = None, *, actor: Actor) -> list[Event]:
        """Roll the champion back, by default to the one before the last promotion, and pin the loop to it."""
        decision_log = await self._open_existing(loop, actor)
        target = _rollback_target(decision_log, to)
        if target is None:
            return []
        await self._check_quota(loop, ModelRolledBack)
        if target != BASELINE:
            await self._check_can_serve(decision_log, target)
        champion = decision_log.loop.champion.version
        data = ModelRolledBackData(
            version=target,
            rolled_back=champion,
            by="person",
            reason=reason,
            pinned=True,
            outcomes=decision_log.working.outcomes,
        )
        decision_log.decide(ModelRolledBack, champion, data, decision_log.working.runs.get(line_of(champion)))
        return await self._close(decision_log)

    async def approve(self, loop: str, reason: str, version: str | None = None, *, actor: Actor) -> list[Event]:
        """Approve of the candidate that waits; the last approval takes its step. Nothing where the actor has before.

        Raises Conflict where nothing waits, or several people must approve and the actor has led to the candidate.
        """
        decision_log = await self._open_existing(loop, actor)
        state = decision_log.loop
        pending = awaited_approval(state.approval, state.candidate, version, decision_log.context.now)
        if actor.name in pending.approved_by:
            return []
        require_other_eyes(pending, await self.store.line_origin(loop, line_of(pending.version)), actor.name)
        await self._check_quota(loop, CandidateApproved)
        data = CandidateApprovedData(
            version=pending.version,
            step=pending.step,
            approved=len(pending.approved_by) + 1,
            approvals=pending.approvals,
            reason=reason,
        )
        decision_log.decide(CandidateApproved, pending.version, data, state.run)
        rollout.advance_approved(decision_log)
        return await self._close(decision_log)

    async def reject(self, loop: str, reason: str, version: str | None = None, *, actor: Actor) -> list[Event]:
        """Roll the candidate back, whether it waits for an approval or not; nothing is pinned."""
        decision_log = await self._open_existing(loop, actor)
        candidate = decision_log.loop.candidate
        if candidate is None:
            raise Conflict("no candidate is in rollout: there is nothing to reject")
        if version is not None and version != candidate.version:
            raise Conflict(f"{version} is not in rollout: the candidate is {candidate.version}")
        await self._check_quota(loop, ModelRolledBack)
        rollout.reject_candidate(decision_log, reason)
        return await self._close(decision_log)

    async def promote(self, loop: str, reason: str, version: str | None = None, *, actor: Actor) -> list[Event]:
        """Make the candidate champion now, or where none is in rollout a registered version; nothing where it is."""
        decision_log = await self._open_existing(loop, actor)
        if (chosen := version_to_promote(decision_log, version)) is None:
            return []
        await self._check_quota(loop, ModelPromoted)
        if decision_log.loop.candidate is None:
            await self._check_can_serve(decision_log, chosen)
        rollout.promote_version(decision_log, chosen, f"by hand: {reason}")
        return await self._close(decision_log)

    async def end_expired_approval(self, loop: str) -> list[Event]:
        """Roll a candidate back whose approvals have not come in time; nothing where none has expired."""
        decision_log = await self.store.open(loop, DecisionContext(None, None, self.clock()))
        if decision_log.state is None or decision_log.state.approval is None:
            return []
        rollout.end_expired_approval(decision_log)
        return await self._close(decision_log)

    async def resume(self, loop: str, reason: str, *, actor: Actor) -> list[Event]:
        """Lift the pin of a rollback; nothing where there is none."""
        decision_log = await self._open_existing(loop, actor)
        if decision_log.loop.pinned:
            await self._check_quota(loop, LoopResumed)
            decision_log.decide(LoopResumed, loop, LoopResumedData(reason=reason))
        return await self._close(decision_log)

    async def delete(self, loop: str, reason: str, *, actor: Actor) -> list[Event]:
        """Delete a loop; its log stays. Nothing where it is deleted already."""
        decision_log = await self._open(loop, actor)
        if decision_log.state is None:
            raise LoopNotFound(loop)
        if decision_log.state.deleted:
            return []
        decision_log.decide(LoopDeleted, loop, LoopDeletedData(reason=reason))
        return await self._close(decision_log)

    async def _check_can_serve(self, decision_log: DecisionLog, version: str) -> None:
        loop = decision_log.name
        if (model := await self.store.model(loop, version)) is None:
            raise VersionNotFound(f"no version {version!r} of {loop}; /v1/loops/{loop}/versions lists them")
        if version not in decision_log.loop.kept:
            raise ArtifactCollected(
                f"the artifact of {version} was collected: those of the latest {MAX_KEPT_VERSIONS} versions are kept, "
                f"and those of the last champions. Choose a version that /v1/loops/{loop}/versions shows as kept, or "
                "train a fresh one: everloop retrain"
            )
        decision_log.models[version] = model

    async def _open_existing(self, loop: str, actor: Actor) -> DecisionLog:
        return await open_existing(self.store, loop, command_context(self.clock, actor))

    async def _open(self, loop: str, actor: Actor) -> DecisionLog:
        return await self.store.open(loop, command_context(self.clock, actor))

    async def _check_quota(self, loop: str, kind: type[Decided], is_new: bool = False) -> None:
        """Raises TooManyChanges, or for a new loop TooManyLoops, where one more decision is over its quota."""
        quota, now = self.quota, self.clock()
        if await self.store.count_decided_since(loop, kind, now - QUOTA_PERIOD) >= quota.changes_per_hour:
            raise TooManyChanges(
                f"{quota.changes_per_hour} decisions of this kind about {loop} within an hour are the limit "
                "(EVERLOOP_REGISTRY_MAX_CHANGES_PER_HOUR); try again later"
            )
        if is_new:
            await self._check_loop_quota(loop)

    async def _check_team(self, existing: Loop | None, spec: LoopSpec, actor: Actor) -> dict[str, Any]:
        """Whose the loop is, the team of who creates it, and what its features cost; raises TeamQuotaReached."""
        team = existing.team if existing else actor.team
        if team is None:
            return {}
        cost, before = feature_cost(spec), existing.feature_cost if existing else None
        require_room(team, await self.store.team_use(team), self.team_quotas(team), before, cost)
        return {"team": team, "feature_cost": cost}

    async def _check_loop_quota(self, loop: str) -> None:
        limit = self.quota.loops
        living, ever = await self.store.count_loops()
        if living >= limit:
            raise TooManyLoops(
                f"there are {living:,} loops, the limit (EVERLOOP_REGISTRY_MAX_LOOPS); delete one that nobody "
                "needs (everloop delete LOOP), or raise the limit"
            )
        if ever >= limit * NAMES_PER_LOOP and not await self.store.has_loop(loop):
            raise TooManyLoops(
                f"{ever:,} names were in use, {NAMES_PER_LOOP} times EVERLOOP_REGISTRY_MAX_LOOPS; apply under the "
                "name of a deleted loop, or raise the limit"
            )

    async def _close(self, decision_log: DecisionLog) -> list[Event]:
        await self.store.save(decision_log)
        return decision_log.events_to_publish()


def _rollback_target(decision_log: DecisionLog, to: str | None) -> str | None:
    """The version to roll back to; None where it is pinned there already. Raises Conflict where there is none."""
    loop = decision_log.loop
    champion = loop.champion.version
    if to is None and loop.pinned:
        raise Conflict(f"pinned to {champion} by a rollback already; name the version in `to`, or resume first")
    if to is None and champion == BASELINE:
        raise Conflict("version 0 is champion: there is nothing before it")
    target = to or (loop.previous_champion.version if loop.previous_champion else BASELINE)
    if target != champion:
        return target
    if loop.pinned:
        return None
    raise Conflict(f"{champion} is champion already")
