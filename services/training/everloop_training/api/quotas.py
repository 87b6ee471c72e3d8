"""What teams have of the quotas that training counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from fastapi import APIRouter

from everloop_shared.access.teams import TeamQuotas
from everloop_shared.clock import Clock, system_clock
from everloop_shared.http.team_quotas import Used, quota_router
from everloop_training.domain.run_quota import RunQuota


def team_router(counted: Sequence[RunQuota], quotas: TeamQuotas, clock: Clock = system_clock) -> APIRouter:
    """`GET /v1/quotas`."""

    async def count() -> Used:
        found: dict[str, dict[str, float]] = defaultdict(dict)
        for quota in counted:
            for team, times in quota.by_team(clock()).items():
                found[team][quota.name] = len(times)
        return found

    return quota_router(count, tuple(quota.name for quota in counted), quotas)
