"""The HTTP endpoints for trainers elsewhere: take a run, renew the lease, send the model, or give the run up."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from everloop_models.intake import ModelRefused
from everloop_models.manifest import (
    MANIFEST_HEADER,
    ONNX_TYPES,
    ModelManifest,
    manifest_openapi,
    read_manifest,
    rejected,
)
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import TRAINER
from everloop_schemas.training import RunFinished, RunRequested
from everloop_shared.commands import CommandEdge
from everloop_shared.http.json_body import command_body
from everloop_shared.http.openapi import describe_body, schema_of
from everloop_shared.http.uploads import Upload, UploadFolder
from everloop_shared.text import Readable
from everloop_training.api.schemas import LeasedRun, LeaseView, TrainerRunEnd
from everloop_training.domain.leases import Lease
from everloop_training.domain.trainer_run import TrainerAnswer
from everloop_training.handlers import TrainerHandlers
from everloop_training.metrics import ANSWERS, LEASES

COMMAND_BYTES = 10_000
LONGEST_WAIT_S = 60.0
UPLOAD = Upload("PUT", re.compile("/v1/loops/[^/]+/runs/[^/]+/model"), frozenset(k.encode() for k in ONNX_TYPES))
LeaseId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class LeaseBody(BaseModel):
    """Who takes a run, and how long to wait for one."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    trainer: str = Field(pattern=TRAINER, description="the trainer's name in the loop's spec")
    lease: LeaseId | None = Field(None, description="an id for the lease: the same one again is the same lease")
    wait: float = Field(0.0, ge=0, le=LONGEST_WAIT_S, description="seconds to wait until there is a run")


class RenewBody(BaseModel):
    """Which lease is renewed."""

    model_config = ConfigDict(extra="forbid")

    lease: LeaseId


class FailBody(RenewBody):
    """Why there will be no model."""

    reason: Readable = Field(min_length=1, max_length=400)


class AnswerManifest(ModelManifest):
    """What a trainer says of its model; `digest` and `rows` are those of the data set as it read it."""

    digest: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    rows: int | None = Field(None, ge=0)


_ENDED: dict[int | str, dict[str, Any]] = {
    409: {"description": "The run has ended, a newer one has taken its place (`errors` names it), or the lease ended."}
}
_MODEL: dict[int | str, dict[str, Any]] = {
    409: {"description": "The run was answered with another model, has failed, or a newer one has taken its place."},
    413: {"description": "The file is over `EVERLOOP_TRAINING_MAX_ARTIFACT_BYTES`."},
    415: {"description": "The content type is not that of an ONNX file."},
    422: {"description": "The model cannot be served on this loop; another may be sent while the run is open."},
}


def trainer_router(
    handlers: TrainerHandlers, commands: CommandEdge, uploads: UploadFolder, max_bytes: int
) -> APIRouter:
    """The routes of trainers, below `/v1/loops/{loop}/runs`."""
    routes = APIRouter(prefix="/v1/loops/{loop}", tags=["training"])
    _add_leases(routes, handlers, commands)
    _add_model(routes, handlers, commands, uploads, max_bytes)
    return routes


def _add_leases(routes: APIRouter, handlers: TrainerHandlers, commands: CommandEdge) -> None:
    @routes.post(
        "/runs/lease",
        response_model=LeasedRun,
        responses={204: {"description": "There is no run to take."}},
        openapi_extra=describe_body(LeaseBody, {"trainer": "pytorch", "wait": 30}),
    )
    async def lease_run(loop: str, request: Request) -> Response:
        """Take the oldest run that asks this trainer for a model."""
        await commands.accept(request.headers)
        body = await command_body(LeaseBody, request, COMMAND_BYTES)
        taken = await handlers.lease(loop, body.trainer, body.wait, body.lease)
        if taken is None:
            return Response(status_code=204)
        LEASES.labels(loop).inc()
        return JSONResponse(_leased(*taken, handlers.loops.require(loop).data.spec))

    @routes.post(
        "/runs/{run}/renew",
        response_model=LeaseView,
        responses=_ENDED,
        openapi_extra=describe_body(RenewBody, {"lease": "0" * 32}),
    )
    async def renew_lease(loop: str, run: str, request: Request) -> JSONResponse:
        """Renew a lease before it ends."""
        await commands.accept(request.headers)
        body = await command_body(RenewBody, request, COMMAND_BYTES)
        return JSONResponse(_lease(await handlers.renew(loop, run, body.lease)))

    @routes.post(
        "/runs/{run}/release",
        response_model=LeaseView,
        responses=_ENDED,
        openapi_extra=describe_body(RenewBody, {"lease": "0" * 32}),
    )
    async def release_run(loop: str, run: str, request: Request) -> JSONResponse:
        """Leave a run to the next trainer: it is offered again at once."""
        await commands.accept(request.headers)
        body = await command_body(RenewBody, request, COMMAND_BYTES)
        return JSONResponse(_lease(await handlers.release(loop, run, body.lease)))

    @routes.post(
        "/runs/{run}/fail",
        response_model=TrainerRunEnd,
        responses=_ENDED,
        openapi_extra=describe_body(FailBody, {"lease": "0" * 32, "reason": "the data set has one class"}),
    )
    async def fail_run(loop: str, run: str, request: Request) -> JSONResponse:
        """End a run without a model: its line keeps the one that it has."""
        command = await commands.accept(request.headers)
        body = await command_body(FailBody, request, COMMAND_BYTES)
        [ended] = await command.run(lambda actor: handlers.fail(loop, run, body.lease, body.reason))
        ANSWERS.labels(loop, "failed").inc()
        return JSONResponse(_end(ended))


def _add_model(
    routes: APIRouter, handlers: TrainerHandlers, commands: CommandEdge, uploads: UploadFolder, max_bytes: int
) -> None:
    @routes.put(
        "/runs/{run}/model",
        response_model=TrainerRunEnd,
        responses=_MODEL,
        openapi_extra=manifest_openapi(schema_of(AnswerManifest), {"metrics": {"accuracy": 0.9}}),
    )
    async def put_model(loop: str, run: str, request: Request) -> JSONResponse:
        """Answer a run with an ONNX file: it is tried, and the run's line predicts with it from now on."""
        command = await commands.accept(request.headers)
        handlers.require_run(loop, run)
        manifest = read_manifest(AnswerManifest, request.headers.get(MANIFEST_HEADER))
        async with uploads.receive(request, max_bytes) as received:
            if not received.size:
                raise rejected("body", "is empty; send the ONNX file as it is (curl --data-binary @model.onnx)")
            answer = TrainerAnswer(received.file, manifest.given, manifest.metrics, manifest.digest, manifest.rows)
            try:
                [ended] = await command.run(lambda actor: handlers.take_model(loop, run, answer))
            except ModelRefused:
                ANSWERS.labels(loop, "refused").inc()
                raise
        ANSWERS.labels(loop, "trained").inc()
        return JSONResponse(_end(ended))


def _lease(lease: Lease) -> dict[str, Any]:
    return {
        "id": lease.id,
        "number": lease.number,
        "until": lease.until.isoformat(),
        "latest": lease.latest.isoformat(),
    }


def _leased(run: RunRequested, lease: Lease, spec: LoopSpec) -> dict[str, Any]:
    data, classes = run.data, spec.label.classes
    assert data.data_set is not None, "the run asks for a model that is trained on it"
    return {
        "loop": run.loop,
        "run": data.run,
        "line": data.line,
        "trainer": lease.trainer,
        "trigger": data.trigger,
        "reason": data.reason,
        "requested": run.time.isoformat(),
        "task": spec.task,
        "classes": list(classes) if classes is not None else None,
        "parameters": data.model.parameters,
        "data_set": {"name": data.data_set.name, **data.data_set.model_dump(exclude={"digest", "rows"})},
        "lease": {**_lease(lease), "seconds": (lease.until - lease.given).total_seconds()},
    }


def _end(finished: RunFinished) -> dict[str, Any]:
    data = finished.data
    version = f"{data.line}@{data.offset}" if data.state == "trained" else None
    return {
        "loop": finished.loop,
        **data.model_dump(mode="json", include={"run", "line", "state", "offset", "reason", "metrics"}),
        "version": version,
    }
