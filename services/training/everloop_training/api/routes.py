"""The HTTP endpoint: a loop's runs, and the request for another."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from everloop_schemas.training import RunFinished, RunRequested
from everloop_shared.commands import CommandEdge
from everloop_shared.http.json_body import command_body
from everloop_shared.http.openapi import describe_body
from everloop_shared.text import Readable
from everloop_training.api.data_set_response import describe
from everloop_training.api.schemas import Run, RunList, WaitingRun
from everloop_training.handlers import Handlers

COMMAND_BYTES = 10_000
NO_OUTCOMES = "there is no outcome to learn yet; training starts by itself with the first label"


class RunBody(BaseModel):
    """Why a person requests a run; the same `key` again is the same run."""

    model_config = ConfigDict(extra="forbid")

    reason: Readable = Field("asked for by a person", min_length=1, max_length=500)
    key: Readable | None = Field(None, min_length=1, max_length=200)


def router(handlers: Handlers, commands: CommandEdge) -> APIRouter:
    """`GET` and `POST /v1/loops/{loop}/runs`."""
    routes = APIRouter(prefix="/v1/loops/{loop}", tags=["training"])

    @routes.get("/runs", response_model=RunList, summary="The loop's runs, oldest first")
    async def list_runs(loop: str) -> JSONResponse:
        return JSONResponse({"loop": loop, "runs": [_describe(r, f) for r, f in handlers.runs_of(loop)]})

    @routes.post(
        "/runs",
        status_code=202,
        summary="Start a fresh line now",
        response_model=Run | WaitingRun,
        openapi_extra=describe_body(RunBody, required=False),
    )
    async def request_run(loop: str, request: Request) -> JSONResponse:
        command = await commands.accept(request.headers)
        body = await command_body(RunBody, request, COMMAND_BYTES, required=False)
        runs = await command.run(lambda actor: handlers.request_run(loop, body.reason, body.key, actor=actor))
        if not runs:
            return JSONResponse({"loop": loop, "run": None, "state": "waiting", "detail": NO_OUTCOMES}, 202)
        return JSONResponse(_describe(runs[0], None), 202)

    return routes


def _describe(requested: RunRequested, finished: RunFinished | None) -> dict[str, Any]:
    data = requested.data
    data_set = (finished.data.data_set if finished else None) or data.data_set
    return {
        **data.model_dump(mode="json", exclude={"model", "data_set"}),
        "model": data.model.model_dump(mode="json", exclude_defaults=True),
        "requested": requested.time.isoformat(),
        "causationid": requested.causationid,
        "state": finished.data.state if finished else "running",
        "finished": finished.time.isoformat() if finished else None,
        "outcomes": finished.data.outcomes if finished else None,
        "failure": finished.data.reason if finished else None,
        "data_set": describe(data_set) if data_set else None,
        "metrics": finished.data.metrics if finished else {},
        "seconds": finished.data.seconds if finished else None,
        "trainer": (finished.data.trainer if finished else None) or data.model.trainer,
    }
