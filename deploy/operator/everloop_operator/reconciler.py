"""Brings Everloop to what a resource says, and the resource's status to what Everloop says; safe to repeat."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from everloop_operator.errors import Refused, Unavailable
from everloop_operator.installation import Installation
from everloop_operator.ownership import Claim, Owners, has_applied
from everloop_operator.resource import LoopResource
from everloop_operator.status import (
    Status,
    describe_errors,
    describe_quality,
    describe_rollout,
    describe_substitutes,
    find_condition,
    set_condition,
)

Step = Literal["announce", "apply", "tell", "agree", "wait"]
SOON_S, ANNOUNCED_S = 1.0, 0.0
RETRY_REFUSED_S = 300.0
"""A refused spec is applied again now and then: a newer registry, or a larger quota, may take it."""


@dataclass(frozen=True)
class Notice:
    """An event on the resource."""

    reason: str
    message: str
    is_warning: bool = False


@dataclass
class Outcome:
    """The status as it is now, what to tell, and when to look again."""

    status: Status
    again_in_s: float
    notices: list[Notice] = field(default_factory=list)


@dataclass
class _Seen:
    """What this process knows of a resource; another one finds it out again."""

    used: int | None = None
    asked: datetime | None = None
    refused: datetime | None = None
    substitutes: str | None = None


def choose_step(resource: LoopResource, listed: Mapping[str, Any] | None, *, is_due_again: bool) -> Step:
    """What to do about the registry, which lists the resource's loop so (None: it has no such loop).

    A first spec is announced before it is applied: a process that is stopped in between leaves it known whose the loop
    is. What was refused is applied again when it `is_due_again`, or changed.
    """
    status, accepted = resource.status, find_condition(resource.status, "Accepted")
    if accepted.get("reason") == "Applying":
        return "apply"
    if status.get("observedGeneration") != resource.generation or accepted.get("reason") == "NameTaken":
        return "apply" if has_applied(status) else "announce"
    if accepted.get("status") != "True":
        return "apply" if is_due_again else "wait"
    if listed is not None and listed["revision"] == status.get("revision"):
        return "agree"
    return "apply" if resource.restores else "tell"


class Reconciler:
    """Reconciles one resource at a time; different ones may be reconciled at once."""

    def __init__(
        self, installation: Installation, poll_s: float, quality_s: float, now: Callable[[], datetime] | None = None
    ) -> None:
        self._installation, self._owners = installation, Owners()
        self._poll_s, self._quality_s = poll_s, quality_s
        self._now = now or (lambda: datetime.now(UTC))
        self._seen: dict[str, _Seen] = {}

    async def reconcile(self, resource: LoopResource, claims: Collection[Claim]) -> Outcome:
        """One step; `claims` are those of all resources of this name."""
        out = Outcome(deepcopy(dict(resource.status)), self._poll_s)
        owner = self._owners.find(resource.name, claims)
        if owner is not None and owner.uid != resource.uid:
            self._refuse(out, resource, "NameTaken", [("metadata.name", f"loop {resource.name} is {owner.place}'s")])
            return out
        try:
            await self._apply_what_differs(out, resource)
            await self._look(out, resource)
        except Unavailable as e:
            self._set(out, resource, "Ready", "Unknown", e.reason, str(e))
        return out

    async def delete(self, resource: LoopResource, claims: Collection[Claim]) -> Notice:
        """Delete the resource's loop, unless it is to be kept or is not the resource's. Raises Unavailable."""
        self._seen.pop(resource.uid, None)
        owner = self._owners.find(resource.name, claims)
        if (owner is not None and owner.uid != resource.uid) or not has_applied(resource.status):
            return Notice("Left", f"loop {resource.name} was not this resource's; it is as it was")
        if resource.keeps_its_loop:
            return Notice("Kept", f"loop {resource.name} goes on without this resource, as its annotation asks")
        await self._installation.delete(resource.name, f"resource {resource.place} was deleted")
        return Notice("Deleted", f"loop {resource.name} is deleted; its decisions are kept")

    def tell_waiting_deletion(self, resource: LoopResource, away: Unavailable) -> Outcome:
        """The status of a resource whose loop cannot be deleted now."""
        message = f"the loop will be deleted as soon as Everloop answers: {away}"
        out = Outcome(deepcopy(dict(resource.status)), self._poll_s, [Notice("DeletionWaits", message, True)])
        self._set(out, resource, "Ready", "Unknown", "DeletionWaits", message)
        return out

    async def _apply_what_differs(self, out: Outcome, resource: LoopResource) -> None:
        listed = (await self._installation.listed()).get(resource.name)
        step = choose_step(resource, listed, is_due_again=self._is_due_again(resource))
        if step == "announce":
            self._set(out, resource, "Accepted", "Unknown", "Applying", "the spec is being applied")
            out.again_in_s = ANNOUNCED_S
        elif step == "apply":
            await self._apply(out, resource, listed)
        elif step == "tell":
            self._tell_of_drift(out, resource, listed)
        elif step == "agree":
            self._set(out, resource, "Synced", "True", "Synced", "the registry has this spec")

    def _is_due_again(self, resource: LoopResource) -> bool:
        refused = self._seen_of(resource).refused
        return refused is None or (self._now() - refused).total_seconds() >= RETRY_REFUSED_S

    async def _apply(self, out: Outcome, resource: LoopResource, listed: Mapping[str, Any] | None) -> None:
        before = out.status.get("revision")
        try:
            if misplaced := resource.misplaced_keys():
                raise Refused(misplaced)
            revision = await self._installation.apply(resource.name, resource.loop_file())
        except Refused as e:
            self._seen_of(resource).refused = self._now()
            self._refuse(out, resource, "Refused", e.errors)
            return
        if out.status.get("observedGeneration") == resource.generation and before not in (None, revision):
            found = "it was deleted" if listed is None else f"revision {listed['revision']} was applied"
            out.notices.append(Notice("Restored", f"{found} elsewhere; applied again: revision {revision}", True))
        elif revision != before:
            out.notices.append(Notice("Applied", f"revision {revision}"))
        out.status |= {"observedGeneration": resource.generation, "revision": revision}
        out.status.pop("errors", None)
        self._set(out, resource, "Accepted", "True", "Applied", "the registry has accepted the spec")
        self._set(out, resource, "Synced", "True", "Synced", "the registry has this spec")

    def _refuse(self, out: Outcome, resource: LoopResource, reason: str, errors: Collection[tuple[str, str]]) -> None:
        told = "; ".join(f"{name}: {error}" for name, error in errors)
        out.status |= {"observedGeneration": resource.generation, "errors": describe_errors(list(errors))}
        revision = out.status.get("revision")
        goes_on = f"; revision {revision} goes on" if revision is not None and reason == "Refused" else ""
        is_news = self._set(out, resource, "Accepted", "False", reason, told)
        self._set(out, resource, "Ready", "False", reason, f"{told}{goes_on}")
        if is_news or out.status["errors"] != resource.status.get("errors"):
            out.notices.append(Notice(reason, told, True))

    def _tell_of_drift(self, out: Outcome, resource: LoopResource, listed: Mapping[str, Any] | None) -> None:
        ours = out.status.get("revision")
        found = "it was deleted there" if listed is None else f"revision {listed['revision']} was applied there"
        message = f"the registry does not have this spec (revision {ours}) any more: {found}"
        if self._set(out, resource, "Synced", "False", "AppliedElsewhere", message):
            out.notices.append(Notice("Drifted", message, True))

    async def _look(self, out: Outcome, resource: LoopResource) -> None:
        """Status and readiness of an accepted loop."""
        listed = (await self._installation.listed()).get(resource.name)
        if listed is None or out.status.get("revision") is None:
            if find_condition(out.status, "Accepted").get("status") != "False":
                self._set(out, resource, "Ready", "False", "NotApplied", "the registry does not have the loop")
            return
        champion = out.status.get("champion", {}).get("version")
        out.status |= describe_rollout(listed, out.status)
        if champion not in (None, listed["champion"]):
            out.notices.append(Notice("ChampionChanged", f"{listed['champion']} serves; before it {champion}"))
        await self._read_quality(out, resource, is_due=champion != listed["champion"])
        if find_condition(out.status, "Accepted").get("status") == "True":
            await self._judge_readiness(out, resource)

    async def _read_quality(self, out: Outcome, resource: LoopResource, *, is_due: bool) -> None:
        seen, now = self._seen_of(resource), self._now()
        if not is_due and seen.asked is not None and (now - seen.asked).total_seconds() < self._quality_s:
            return
        try:
            answer = await self._installation.status(resource.name)
        except (Refused, Unavailable):
            return  # monitoring is behind or away: what was known stays, and serving goes on without it
        finally:
            seen.asked = now
        if answer["champion"]["version"] == out.status["champion"]["version"]:
            seen.substitutes = describe_substitutes(answer)
            out.status |= describe_quality(answer)

    async def _judge_readiness(self, out: Outcome, resource: LoopResource) -> None:
        seen, revision = self._seen_of(resource), int(out.status["revision"])
        if seen.used != revision:
            if behind := await self._installation.find_behind(resource.name, revision):
                message = f"{' and '.join(behind)} do not use revision {revision} yet"
                self._set(out, resource, "Ready", "False", "NotUsedYet", message)
                out.again_in_s = min(SOON_S, self._poll_s)
                return
            seen.used = revision
        if seen.substitutes:
            self._set(out, resource, "Ready", "False", "ChampionNotLoaded", seen.substitutes)
        elif self._set(out, resource, "Ready", "True", "Serving", f"revision {revision} is used"):
            out.notices.append(Notice("Ready", f"revision {revision} is used by ingest, feature and serving"))

    def _set(self, out: Outcome, resource: LoopResource, kind: str, value: str, reason: str, message: str) -> bool:
        generation, now = resource.generation, self._now()
        return set_condition(out.status, kind, value, reason, message, generation=generation, now=now)

    def _seen_of(self, resource: LoopResource) -> _Seen:
        return self._seen.setdefault(resource.uid, _Seen())
