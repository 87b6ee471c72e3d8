"""The endpoint about a loop's service levels."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.objectives import ObjectivesWatch
from everloop_monitoring.ports import MonitoringReader
from everloop_shared.clock import Clock, system_clock


class ObjectiveCases(BaseModel):
    """The cases that began within a span of time, from `start_s` in seconds since 1970 on."""

    start_s: int
    good: int
    total: int


class ObjectiveView(BaseModel):
    """An objective: so many of 30 days' cases were in time, and how fast its budget burns; null without cases.

    `history` has the cases of `6h` by 5 minutes and of `30d` by 6 hours, oldest first, where there were any.
    """

    objective: str
    within_s: float
    share: float
    good: int
    total: int
    burn: dict[str, float | None]
    budget_left: float | None
    history: dict[str, list[ObjectiveCases]]


def add_objectives(api: APIRouter, reader: MonitoringReader, loops: KnownLoops, clock: Clock = system_clock) -> None:
    """Add the route; it answers 404 for a loop that is not applied."""

    @api.get("/v1/loops/{loop}/objectives", response_model=list[ObjectiveView])
    async def list_objectives(loop: str) -> JSONResponse:
        """The loop's objectives, with the burn rates of their budgets over 1 hour, 6 hours and 3 days."""
        spec = loops.require(loop).data.spec
        if not ObjectivesWatch.is_on(spec):
            return JSONResponse([])
        watch = await reader.watch(loop, ObjectivesWatch) or ObjectivesWatch()
        return JSONResponse(list(watch.follow(spec).describe(clock())))
