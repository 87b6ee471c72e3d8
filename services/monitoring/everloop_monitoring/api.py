"""The HTTP endpoints of monitoring: read-only, and the console."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.status import build_evaluation, build_status
from everloop_monitoring.domain.timeline import ALERT_KINDS, TimelineEntry
from everloop_monitoring.ports import MonitoringReader
from everloop_schemas.registry import LoopState
from everloop_shared.http import page

DELIVERY_S = 0.03
"""Within this time a prediction that was answered by REST is on the log."""
CATCH_UP_S = 0.5
"""A status waits at most this long until everything sent before the request is counted."""
CONSOLE = Path(__file__).with_name("console.html")
Limit = Annotated[int, Query(ge=1, le=10_000, description="how many, counted from the newest")]


def router(reader: MonitoringReader, loops: KnownLoops, caught_up: Callable[[float], Awaitable[bool]]) -> APIRouter:
    """The routes; each answers 404 for a loop that is not applied. `caught_up` is the engine's."""
    api = APIRouter()

    async def entries(loop: str, kinds: tuple[str, ...] | None, limit: int) -> list[dict[str, Any]]:
        loops.require(loop)
        return [_render_entry(entry) for entry in await reader.timeline_entries(loop, kinds, limit)]

    @api.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def console() -> HTMLResponse:
        return page(CONSOLE.read_text(encoding="utf-8"))

    @api.get("/v1/loops")
    async def all_loops() -> dict[str, Any]:
        return {
            "loops": [{**_render_loop(s), "task": s.data.spec.task, "metric": s.data.spec.metric} for s in loops.all()]
        }

    @api.get("/v1/loops/{loop}")
    async def one_loop(loop: str) -> dict[str, Any]:
        return _render_loop(loops.require(loop))

    @api.get("/v1/loops/{loop}/status")
    async def loop_status(loop: str) -> dict[str, Any]:
        await asyncio.sleep(DELIVERY_S)
        await caught_up(CATCH_UP_S)
        return build_status(loops.require(loop), await reader.totals(loop), await reader.evaluation_state(loop))

    @api.get("/v1/loops/{loop}/evaluation")
    async def loop_evaluation(loop: str, limit: Limit = 200) -> dict[str, Any]:
        known = loops.require(loop)
        return build_evaluation(known, await reader.evaluation_state(loop), await reader.lines(loop, limit))

    @api.get("/v1/loops/{loop}/drifts")
    async def drifts(loop: str, limit: Limit = 200) -> list[dict[str, Any]]:
        return await entries(loop, ("drift",), limit)

    @api.get("/v1/loops/{loop}/alerts")
    async def alerts(loop: str, limit: Limit = 200) -> list[dict[str, Any]]:
        return await entries(loop, ALERT_KINDS, limit)

    @api.get("/v1/loops/{loop}/timeline")
    async def timeline(loop: str, limit: Limit = 200) -> list[dict[str, Any]]:
        return await entries(loop, None, limit)

    @api.get("/v1/loops/{loop}/series")
    async def series(loop: str, limit: Limit = 2000) -> list[dict[str, Any]]:
        loops.require(loop)
        return await reader.series(loop, limit)

    return api


def _render_loop(state: LoopState) -> dict[str, Any]:
    return {"loop": state.loop, "revision": state.revision}


def _render_entry(entry: TimelineEntry) -> dict[str, Any]:
    rendered = asdict(entry)
    rendered["time"] = entry.time.isoformat()
    del rendered["loop"]
    return rendered
