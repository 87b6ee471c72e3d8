"""Who led to a candidate, and so does not count among several people who must approve of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from everloop_registry.errors import Conflict
from everloop_schemas.registry import PendingApproval
from everloop_shared.commands import ANONYMOUS

SEVERAL = 2
"""From so many approvals on they must come from others."""


class LineRun(NamedTuple):
    """A run of a candidate's line: what requested it, of which revision of the spec, and the person where one did."""

    run: str
    trigger: str
    revision: int | None
    actor: str | None


class LineOrigin(NamedTuple):
    """What is known of how a line came to be: its runs, who applied each revision, and who submitted its model."""

    runs: tuple[LineRun, ...]
    applied_by: Mapping[int, str]
    submitted_by: str | None


def people_behind(origin: LineOrigin) -> dict[str, str]:
    """By name, what each person did that led to the line; nothing of what a drift or a schedule requested."""
    found = dict(_deeds(origin))
    found.pop(ANONYMOUS.name, None)
    return found


def require_other_eyes(pending: PendingApproval, origin: LineOrigin, actor: str) -> None:
    """Raises Conflict where the approvals of several people are asked for, and the actor has led to the candidate."""
    if pending.approvals >= SEVERAL and (deed := people_behind(origin).get(actor)):
        raise Conflict(
            f"{actor} {deed}, which led to {pending.version}: where {pending.approvals} people must approve, they are "
            "others than who asked for the candidate; let somebody else approve"
        )


def _deeds(origin: LineOrigin) -> Iterable[tuple[str, str]]:
    for run in origin.runs:
        if run.actor is not None:
            yield run.actor, f"requested run {run.run}"
        elif run.trigger == "initial" and run.revision is not None and run.revision in origin.applied_by:
            yield origin.applied_by[run.revision], f"applied revision {run.revision} of the loop"
    if origin.submitted_by is not None:
        yield origin.submitted_by, "submitted the model"
