"""The route by which people see what their team has of its quotas; each service answers for those that it counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from everloop_shared.access.identity import current_identity
from everloop_shared.access.teams import TeamQuotas

Used = Mapping[str, Mapping[str, float]]
"""By team and quota, how much is used."""


class QuotaView(BaseModel):
    """How much of a quota is used, and how much is allowed; null is any amount."""

    used: float
    allowed: float | None


class TeamView(BaseModel):
    """A team and its quotas, by name."""

    team: str
    quotas: dict[str, QuotaView] = Field(description="feature_cost in microseconds per event, the others in numbers")


class TeamList(BaseModel):
    """The caller's team, and for readers of all loops every team that has something."""

    teams: list[TeamView]


def quota_router(count: Callable[[], Awaitable[Used]], names: tuple[str, ...], quotas: TeamQuotas) -> APIRouter:
    """`GET /v1/quotas` of a service that counts the quotas of these names."""
    routes = APIRouter(tags=["quotas"])

    @routes.get("/v1/quotas", response_model=TeamList, summary="What teams have, and may have")
    async def list_quotas() -> JSONResponse:
        used = await count()
        asks = current_identity()
        own = {asks.team} if asks.team else set()
        shown = {*used, *own} if asks.may_everywhere("quotas.read") else own
        return JSONResponse({"teams": [_describe(team, names, used, quotas) for team in sorted(shown)]})

    return routes


def _describe(team: str, names: tuple[str, ...], used: Used, quotas: TeamQuotas) -> dict[str, Any]:
    quota, has = quotas(team), used.get(team, {})
    return {"team": team, "quotas": {n: {"used": has.get(n, 0), "allowed": getattr(quota, n)} for n in names}}
