"""What a team has of its quotas: loops, and what their features cost."""

from __future__ import annotations

from typing import NamedTuple

from everloop_features import compile_features, event_costs
from everloop_registry.errors import TeamQuotaReached
from everloop_schemas.loop import LoopSpec
from everloop_shared.access.teams import TeamQuota


class TeamUse(NamedTuple):
    """How many loops belong to a team, and what their features cost, in microseconds per event."""

    loops: int = 0
    feature_cost: float = 0.0


def feature_cost(spec: LoopSpec) -> float:
    """Microseconds per event that the features of a checked spec take with all windows full, as counted.

    It is a count, not a measurement (`everloop_features.cost`): the same spec costs the same on every machine.
    """
    return round(sum(event_costs(compile_features(spec)).values()), 3)


def require_room(team: str, used: TeamUse, quota: TeamQuota, before: float | None, cost: float) -> None:
    """Raises TeamQuotaReached where a loop of this cost does not fit; `before` is what it cost, None for a new loop.

    A loop may always become cheaper, also in a team that has more than it may since its quota was lowered.
    """
    if before is None and quota.loops is not None and used.loops >= quota.loops:
        raise TeamQuotaReached(
            f"team {team} has {used.loops:,} loops of {quota.loops:,} (quota loops); delete one that nobody needs "
            f"(everloop delete LOOP), or {_raise('loops', team)}"
        )
    more = cost - (before or 0.0)
    if quota.feature_cost is not None and more > 0 and used.feature_cost + more > quota.feature_cost:
        raise TeamQuotaReached(
            f"the features of team {team}'s loops take {used.feature_cost:,.0f} of {quota.feature_cost:,.0f} µs per "
            f"event (quota feature_cost), and this file adds {more:,.0f}; drop features, shorten windows, delete a "
            f"loop that nobody needs (everloop delete LOOP), or {_raise('feature_cost', team)}"
        )


def _raise(quota: str, team: str) -> str:
    return f"have {quota} raised for {team} under teams in the file of keys (EVERLOOP_AUTH_KEYS)"
