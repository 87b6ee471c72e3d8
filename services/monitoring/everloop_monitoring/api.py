"""The HTTP door of monitoring: read-only, and the console."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.status import evaluation, status
from everloop_monitoring.domain.timeline import ALERTS, Happening
from everloop_monitoring.ports import Reports
from everloop_schemas.registry import LoopState
from everloop_shared.http import page

DELIVERY_S = 0.03
"""A prediction that was answered by REST is on the log by then."""
CATCH_UP_S = 0.5
"""So long a status waits at most, so that who asks sees what he sent before; then it says what is counted so far."""
CONSOLE = Path(__file__).with_name("console.html")
Limit = Annotated[int, Query(ge=1, le=10_000, description="how many, the newest")]


def router(reports: Reports, loops: KnownLoops, caught_up: Callable[[float], Awaitable[bool]]) -> APIRouter:
    """The routes; each answers 404 for a loop that nobody has applied. `caught_up` is the engine's."""
    api = APIRouter()

    async def told(loop: str, kinds: tuple[str, ...] | None, limit: int) -> list[dict[str, Any]]:
        loops.require(loop)
        return [_line(h) for h in await reports.happenings(loop, kinds, limit)]

    @api.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def console() -> HTMLResponse:
        return page(CONSOLE.read_text(encoding="utf-8"))

    @api.get("/v1/loops")
    async def all_loops() -> dict[str, Any]:
        return {"loops": [{**_name(s), "task": s.data.spec.task, "metric": s.data.spec.metric} for s in loops.all()]}

    @api.get("/v1/loops/{loop}")
    async def one_loop(loop: str) -> dict[str, Any]:
        return _name(loops.require(loop))

    @api.get("/v1/loops/{loop}/status")
    async def loop_status(loop: str) -> dict[str, Any]:
        await asyncio.sleep(DELIVERY_S)
        await caught_up(CATCH_UP_S)
        return status(loops.require(loop), await reports.totals(loop), await reports.work(loop))

    @api.get("/v1/loops/{loop}/evaluation")
    async def loop_evaluation(loop: str, limit: Limit = 200) -> dict[str, Any]:
        return evaluation(loops.require(loop), await reports.work(loop), await reports.versions(loop, limit))

    @api.get("/v1/loops/{loop}/drifts")
    async def drifts(loop: str, limit: Limit = 200) -> list[dict[str, Any]]:
        return await told(loop, ("drift",), limit)

    @api.get("/v1/loops/{loop}/alerts")
    async def alerts(loop: str, limit: Limit = 200) -> list[dict[str, Any]]:
        return await told(loop, ALERTS, limit)

    @api.get("/v1/loops/{loop}/timeline")
    async def timeline(loop: str, limit: Limit = 200) -> list[dict[str, Any]]:
        return await told(loop, None, limit)

    @api.get("/v1/loops/{loop}/series")
    async def series(loop: str, limit: Limit = 2000) -> list[dict[str, Any]]:
        loops.require(loop)
        return await reports.series(loop, limit)

    return api


def _name(state: LoopState) -> dict[str, Any]:
    return {"loop": state.loop, "revision": state.revision}


def _line(happening: Happening) -> dict[str, Any]:
    line = asdict(happening)
    line["time"] = happening.time.isoformat()
    del line["loop"]
    return line
