"""The endpoints about alerts: those that are open, what happened to them, and silences."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from everloop_learning.loops import KnownLoops
from everloop_monitoring.api.schemas import AlertEntry, SilenceEnded, SilenceList, SilenceView
from everloop_monitoring.domain.alert_doing import describe_doing
from everloop_monitoring.domain.alerts import MAX_NAME_CHARACTERS, OpenAlert
from everloop_monitoring.domain.silences import MAX_SILENCE, Silence, silenced_names
from everloop_monitoring.domain.timeline import ALERT_KINDS, TimelineEntry
from everloop_monitoring.handlers.silencing import Silencing
from everloop_monitoring.ports import MonitoringReader
from everloop_schemas.envelope import Event
from everloop_schemas.monitoring import AlertKind
from everloop_schemas.quantities import Duration, parse_duration_s
from everloop_schemas.registry import LoopState
from everloop_shared.clock import Clock, system_clock
from everloop_shared.commands import Actor, CommandEdge
from everloop_shared.http.json_body import command_body
from everloop_shared.http.openapi import describe_body
from everloop_shared.text import Readable

MAX_COMMAND_BYTES = 10_000
ALERT_FIELDS = ("alert", "state", "since", "evidence", "cause", "doing", "runbook")
Limit = Annotated[int, Query(ge=1, le=10_000, description="how many, counted from the newest")]
State = Annotated[Literal["open"] | None, Query(description="`open`: those that are pending or fire, one row each")]


class SilenceBody(BaseModel):
    """Do not tell receivers of a loop's alerts for some time: of all, of a kind, or of one alert."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    for_: Duration = Field(alias="for", description="such as 2h, at most 30d")
    reason: Readable = Field(min_length=1, max_length=1000)
    kind: AlertKind | None = None
    alert: Readable | None = Field(None, min_length=1, max_length=MAX_NAME_CHARACTERS)


def add_alerts(
    api: APIRouter,
    reader: MonitoringReader,
    loops: KnownLoops,
    edge: CommandEdge,
    silencing: Silencing,
    clock: Clock = system_clock,
) -> None:
    """Add the routes; each answers 404 for a loop that is not applied."""

    @api.get("/v1/loops/{loop}/alerts", response_model=list[AlertEntry])
    async def list_alerts(loop: str, limit: Limit = 200, state: State = None) -> JSONResponse:
        """The latest alerts, oldest first: a row when one fires and one when it is over; or those that are open."""
        known = loops.require(loop)
        if state is None:
            entries = await reader.timeline_entries(loop, ALERT_KINDS, limit)
            return JSONResponse([_render_entry(entry) for entry in entries])
        alerts, silences = await reader.open_alerts(loop), await reader.silences(loop, clock())
        silenced = silenced_names(alerts, silences)
        newest = sorted(alerts, key=lambda alert: alert.since)[-limit:]
        return JSONResponse([_render_open(alert, known, alert.alert in silenced) for alert in newest])

    _add_silences(api, reader, loops, edge, silencing, clock)


def _add_silences(
    api: APIRouter,
    reader: MonitoringReader,
    loops: KnownLoops,
    edge: CommandEdge,
    silencing: Silencing,
    clock: Clock,
) -> None:
    @api.get("/v1/loops/{loop}/silences", response_model=SilenceList)
    async def list_silences(loop: str) -> JSONResponse:
        """The silences that have not ended, the one that ends first before the others."""
        loops.require(loop)
        return JSONResponse({"silences": [_render_silence(one) for one in await reader.silences(loop, clock())]})

    @api.post(
        "/v1/loops/{loop}/silences",
        response_model=SilenceView,
        status_code=201,
        responses={409: {"description": "The loop has as many silences as the limit allows."}},
        openapi_extra=describe_body(SilenceBody, {"for": "2h", "kind": "drift", "reason": "new prices from noon"}),
    )
    async def silence(loop: str, request: Request) -> JSONResponse:
        """Silence alerts of a loop: they are followed and shown, but receivers are not told until it ends."""
        command = await edge.accept(request.headers)
        body = await command_body(SilenceBody, request, MAX_COMMAND_BYTES)
        lasts = min(timedelta(seconds=parse_duration_s(body.for_)), MAX_SILENCE)
        made: list[Silence] = []

        async def add(actor: Actor) -> Sequence[Event]:
            made.append(await silencing.add(loop, lasts, body.reason, body.kind, body.alert, actor=actor))
            return ()

        await command.run(add)
        return JSONResponse(_render_silence(made[0]), 201)

    @api.delete("/v1/loops/{loop}/silences/{id}", response_model=SilenceEnded)
    async def end_silence(loop: str, id: str, request: Request) -> JSONResponse:
        """End a silence: what fires is told. 404 where there is none."""
        command = await edge.accept(request.headers)
        await command.run(lambda actor: silencing.end(loop, id, actor=actor))
        return JSONResponse({"loop": loop, "ended": id})


def _render_entry(entry: TimelineEntry) -> dict[str, Any]:
    data = dict(entry.data)
    about = {name: data.pop(name, None) for name in ALERT_FIELDS}
    row = {"id": entry.id, "kind": entry.kind, "time": entry.time.isoformat(), "what": entry.what, "why": entry.why}
    return {**row, "data": data, **about, "evidence": about["evidence"] or []}


def _render_open(alert: OpenAlert, loop: LoopState, silenced: bool) -> dict[str, Any]:
    return {
        "id": alert.caused_by,
        "kind": alert.kind,
        "time": alert.last.isoformat(),
        "what": alert.message,
        "why": alert.cause or "",
        "data": {"severity": alert.severity, "count": alert.count, "silenced": silenced},
        "alert": alert.alert,
        "state": alert.state,
        "since": alert.since.isoformat(),
        "evidence": list(alert.evidence),
        "cause": alert.cause,
        "doing": describe_doing(alert, loop),
        "runbook": alert.runbook,
    }


def _render_silence(silence: Silence) -> dict[str, Any]:
    return {
        "id": silence.id,
        "loop": silence.loop,
        "kind": silence.kind,
        "alert": silence.alert,
        "until": silence.until.isoformat(),
        "reason": silence.reason,
        "actor": silence.actor,
    }
