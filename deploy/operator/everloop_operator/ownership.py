"""Which of several resources a loop belongs to: one name, one resource, in whatever namespaces they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from everloop_operator.resource import LoopResource
from everloop_operator.status import find_condition


@dataclass(frozen=True)
class Claim:
    """A resource that asks for the loop of its name; `has_applied` says whether the registry ever took its spec."""

    place: str
    uid: str
    created: str
    has_applied: bool

    @classmethod
    def of(cls, resource: LoopResource) -> Claim:
        """What this resource claims."""
        return cls(resource.place, resource.uid, resource.created, has_applied(resource.status))


def has_applied(status: Mapping[str, Any]) -> bool:
    """Whether the loop may be this resource's: it was applied, or was about to be when the operator was stopped."""
    return status.get("revision") is not None or find_condition(status, "Accepted").get("reason") == "Applying"


class Owners:
    """Remembers whose each loop is, so that it changes hands only when its resource is gone."""

    def __init__(self) -> None:
        self._uids: dict[str, str] = {}

    def find(self, loop: str, claims: Iterable[Claim]) -> Claim | None:
        """Who has the loop: who had it; else who has applied it; else the oldest. None where nobody claims it."""
        found = {claim.uid: claim for claim in claims}
        if not found:
            self._uids.pop(loop, None)
            return None
        if (owner := found.get(self._uids.get(loop, ""))) is None:
            owner = min(found.values(), key=lambda c: (not c.has_applied, c.created, c.uid))
            self._uids[loop] = owner.uid
        return owner
