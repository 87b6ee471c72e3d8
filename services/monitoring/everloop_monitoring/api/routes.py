"""The HTTP endpoints of monitoring that read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from everloop_learning.loops import KnownLoops
from everloop_monitoring.api.fairness import fairness_router
from everloop_monitoring.api.features import features_router
from everloop_monitoring.api.quality import quality_router
from everloop_monitoring.api.schemas import Entry, Evaluation, LoopList, Point, Status
from everloop_monitoring.api.session import allowed_actions
from everloop_monitoring.api.shown import shown_router
from everloop_monitoring.domain.status import build_evaluation, build_status
from everloop_monitoring.domain.timeline import TimelineEntry
from everloop_monitoring.domain.watches import watches_of
from everloop_monitoring.ports import MonitoringReader
from everloop_schemas.registry import LoopState
from everloop_shared.access.identity import Identity, current_identity
from everloop_shared.http.schemas import Revision

DELIVERY_S = 0.03
"""Within this time a prediction that was answered by REST is on the log."""
CATCH_UP_S = 0.5
"""A status waits at most this long until everything sent before the request is counted."""
CaughtUp = Callable[[float], Awaitable[bool]]
Limit = Annotated[int, Query(ge=1, le=10_000, description="how many, counted from the newest")]

Early = Annotated[bool, Query(description="also those of features, predictions and labels, which show before labels")]


def router(reader: MonitoringReader, loops: KnownLoops, caught_up: CaughtUp) -> APIRouter:
    """The routes; each answers 404 for a loop that is not applied. `caught_up` is the engine's."""
    api = APIRouter()
    api.include_router(features_router(reader, loops))

    async def entries(loop: str, kinds: tuple[str, ...] | None, limit: int) -> list[dict[str, Any]]:
        loops.require(loop)
        return [_render_entry(entry) for entry in await reader.timeline_entries(loop, kinds, limit)]

    @api.get("/v1/loops", response_model=LoopList)
    async def list_loops() -> JSONResponse:
        """Every loop that the caller may see, in short."""
        asks = current_identity()
        shown = [state for state in loops.all() if asks.may("loops.read", state.loop)]
        return JSONResponse({"loops": [_render_summary(state, asks) for state in shown]})

    @api.get("/v1/loops/{loop}", response_model=Revision)
    async def get_loop(loop: str) -> JSONResponse:
        """The revision of the loop's spec that is measured."""
        return JSONResponse(_render_loop(loops.require(loop)))

    @api.get("/v1/loops/{loop}/status", response_model=Status)
    async def get_status(loop: str) -> JSONResponse:
        """Counts of the whole log, the version that serves, and its scores."""
        await asyncio.sleep(DELIVERY_S)
        await caught_up(CATCH_UP_S)
        known, alerts = loops.require(loop), await reader.open_alerts(loop)
        status = build_status(known, await reader.totals(loop), await reader.evaluation_state(loop), alerts)
        return JSONResponse(status)

    @api.get("/v1/loops/{loop}/evaluation", response_model=Evaluation)
    async def get_evaluation(loop: str, limit: Limit = 200) -> JSONResponse:
        """Scores of what was served, beside the baselines, and of each line."""
        known = loops.require(loop)
        evaluation = build_evaluation(known, await reader.evaluation_state(loop), await reader.lines(loop, limit))
        return JSONResponse(evaluation)

    @api.get("/v1/loops/{loop}/drifts", response_model=list[Entry])
    async def list_drifts(loop: str, limit: Limit = 200, early: Early = False) -> JSONResponse:
        """The latest drifts, oldest first."""
        return JSONResponse(await entries(loop, ("drift", "data_drift") if early else ("drift",), limit))

    @api.get("/v1/loops/{loop}/timeline", response_model=list[Entry])
    async def list_timeline(loop: str, limit: Limit = 200) -> JSONResponse:
        """What happened lately, oldest first, each with its reason."""
        return JSONResponse(await entries(loop, None, limit))

    @api.get("/v1/loops/{loop}/series", response_model=list[Point])
    async def list_series(loop: str, limit: Limit = 2000) -> JSONResponse:
        """The latest points of the curves, oldest first."""
        loops.require(loop)
        return JSONResponse(await reader.series(loop, limit))

    api.include_router(fairness_router(reader, loops))
    api.include_router(shown_router(reader, loops))
    api.include_router(quality_router(reader, loops))
    return api


def _render_loop(state: LoopState) -> dict[str, Any]:
    return {"loop": state.loop, "revision": state.revision}


def _render_summary(state: LoopState, asks: Identity) -> dict[str, Any]:
    spec = state.data.spec
    watched = [watch.kind for watch in watches_of(spec)] + ["slices"] * bool(spec.monitor.slices)
    about = {"task": spec.task, "metric": spec.metric, "watched": watched, "may": allowed_actions(asks, state.loop)}
    return {**_render_loop(state), **about}


def _render_entry(entry: TimelineEntry) -> dict[str, Any]:
    rendered = asdict(entry)
    rendered["time"] = entry.time.isoformat()
    del rendered["loop"]
    return rendered
