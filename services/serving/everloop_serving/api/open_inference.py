"""The Open Inference Protocol, version 2, over the same predictions: a loop is a model, its fields are the inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from everloop_serving.api import schemas
from everloop_serving.api.inference_body import (
    HEADER_LENGTH,
    AnswerForm,
    read_outputs,
    read_request,
    split_body,
    write_answer,
)
from everloop_serving.api.planned_answers import write_row
from everloop_serving.api.timeouts import HEADER, TIMEOUT_PARAMETER, deadline_of
from everloop_serving.domain.inference import (
    InferenceAnswer,
    InferenceRequest,
    ModelMetadata,
    render_answer,
    require_outputs,
)
from everloop_serving.domain.inference_outputs import TensorMetadata
from everloop_serving.domain.inference_plans import PlannedRow
from everloop_serving.domain.new_predictions import MAX_ROWS
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.handlers.inference import InferenceHandlers
from everloop_shared import strict_json
from everloop_shared.access.limits import take_rows
from everloop_shared.commands import CommandEdge
from everloop_shared.http.conventions import Conventions
from everloop_shared.http.direct import DirectAnswer, Headers
from everloop_shared.http.openapi import errors_of, schema_of
from everloop_shared.http.problems import UnsupportedMediaType
from everloop_shared.tracing import current_traceparent

OCTETS = "application/octet-stream"
CONVENTIONS = Conventions("/v2", "error", frozenset((None, OCTETS.encode())))
VERSIONS = "/versions/"
"""Stands between a model and its version in an address."""
_HEADER_LENGTH = HEADER_LENGTH.encode()
EXTENSIONS = ["binary_tensor_data", "parameters"]
_MODEL_READY: dict[str, Any] = {
    "response_model": schemas.ModelReady,
    "responses": {503: {"model": schemas.InferenceError, "description": "It is being loaded, or serving starts."}},
}
_BINARY = {OCTETS: {"schema": {"type": "string", "format": "binary"}}}
_INFER: dict[str, Any] = {
    "response_model": schemas.InferenceResponse,
    "responses": {
        200: {
            "description": "The outputs; with tensors in binary behind the JSON where asked for.",
            "content": _BINARY,
        },
        **{s: {"model": schemas.InferenceError, "description": text} for s, text in schemas.PREDICTION_ERRORS.items()},
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "description": f"Up to {MAX_ROWS:,} rows; the JSON alone, or tensors in binary behind it.",
            "content": {"application/json": {"schema": schema_of(schemas.InferenceRequest)}, **_BINARY},
        },
        "parameters": [TIMEOUT_PARAMETER],
    },
}


@dataclass(frozen=True)
class Inference:
    """The endpoint that infers, for the framework's route and for the one before it."""

    handlers: InferenceHandlers
    commands: CommandEdge

    async def answer(self, model: str, version: str | None, headers: Mapping[str, str], body: bytes) -> DirectAnswer:
        """The answer to a request; raises as `InferenceHandlers.infer`, or UnsupportedMediaType or BodyNotJson."""
        command = await self.commands.accept(headers)
        self.handlers.requests.require_loop(model)  # an unknown loop is reported before the body is read
        _require_readable(headers.get("content-type"))
        deadline = deadline_of(headers.get(HEADER), self.handlers.requests.predictions.timer())
        request, form = read_request(model, version, *split_body(body, headers.get(HEADER_LENGTH)))
        return _write(await self.handlers.infer(command, request, current_traceparent(), deadline), form)

    def answer_at_once(self, model: str, version: str | None, headers: Headers, body: bytes) -> DirectAnswer | None:
        """The same for a request that nothing has to be awaited for; None leaves it to `answer`."""
        if self.commands.accept_at_once() is None or headers.raw(HEADER.encode()) is not None:
            return None
        loop = self.handlers.requests.require_loop(model)
        kind, length = headers.raw(b"content-type"), headers.raw(_HEADER_LENGTH)
        _require_readable(None if kind is None else kind.decode("latin-1"))
        text, binary = split_body(body, None if length is None else length.decode("latin-1"))
        row = loop.plans.read(text, binary)
        if row and self.handlers.requests.has_valid_times((row.observation,)):
            return self._answer_row(loop, version, row)
        request, form = read_request(model, version, text, binary)
        answer = self.handlers.infer_at_once(request, current_traceparent())
        if answer is None:
            return None
        if row is None and len(request.inputs[0].values) == 1:
            tensors = [(tensor.name, tensor.datatype) for tensor in request.inputs]
            loop.plans.learn(loop.spec, loop.decoder, tensors, len(binary) > 0)
        return _write(answer, form)

    def _answer_row(self, loop: ServedLoop, version: str | None, row: PlannedRow) -> DirectAnswer | None:
        """As `answer_at_once`, for a request that was read by a plan."""
        names, by_name = read_outputs(row.outputs) if row.outputs else ((), {})
        loop.require_version(version)
        require_outputs(loop, names)
        predictions = self.handlers.requests.predict_at_once(
            loop.loop, (row.observation,), current_traceparent(), version
        )
        if predictions is None:
            return None
        take_rows(1)
        if not names and (written := write_row(loop, predictions[0], row.id, row.in_binary)):
            return _direct(*written)
        request = InferenceRequest(loop.loop, version, row.id, {}, (), names)
        return _write(render_answer(loop, request, predictions), AnswerForm(by_name, row.in_binary))


def router(inference: Inference, not_ready: Callable[[], str | None]) -> APIRouter:
    """The routes under /v2."""
    routes = APIRouter(prefix="/v2", tags=["open inference protocol"], responses=errors_of(schemas.InferenceError))
    handlers = inference.handlers

    @routes.get("", response_model=schemas.ServerMetadata)
    async def get_server() -> JSONResponse:
        return JSONResponse({"name": "everloop", "version": "2", "extensions": EXTENSIONS})

    @routes.get("/health/live", response_model=schemas.Live)
    async def is_live() -> JSONResponse:
        return JSONResponse({"live": True})

    @routes.get("/health/ready", response_model=schemas.Ready, responses={503: {"model": schemas.InferenceError}})
    async def is_ready() -> JSONResponse:
        reason = not_ready()
        return JSONResponse({"ready": True}) if reason is None else JSONResponse({"ready": False, "error": reason}, 503)

    @routes.get("/models/{loop}", response_model=schemas.ModelMetadata)
    async def get_model(loop: str) -> JSONResponse:
        return JSONResponse(_render_metadata(handlers.describe(loop, None)))

    @routes.get("/models/{loop}/versions/{version}", response_model=schemas.ModelMetadata)
    async def get_model_version(loop: str, version: str) -> JSONResponse:
        return JSONResponse(_render_metadata(handlers.describe(loop, version)))

    @routes.get("/models/{loop}/ready", **_MODEL_READY)
    async def is_model_ready(loop: str) -> JSONResponse:
        return _render_ready(loop, handlers.is_ready(loop, None))

    @routes.get("/models/{loop}/versions/{version}/ready", **_MODEL_READY)
    async def is_model_version_ready(loop: str, version: str) -> JSONResponse:
        return _render_ready(loop, handlers.is_ready(loop, version))

    @routes.post("/models/{loop}/infer", **_INFER)
    async def infer(loop: str, request: Request) -> Response:
        return _render(await inference.answer(loop, None, request.headers, await request.body()))

    @routes.post("/models/{loop}/versions/{version}/infer", **_INFER)
    async def infer_by_version(loop: str, version: str, request: Request) -> Response:
        return _render(await inference.answer(loop, version, request.headers, await request.body()))

    return routes


def _write(answer: InferenceAnswer, form: AnswerForm) -> DirectAnswer:
    return _direct(*write_answer(answer, form))


def _direct(written: bytes, json_bytes: int | None) -> DirectAnswer:
    if json_bytes is None:
        return DirectAnswer(written)
    return DirectAnswer(written, OCTETS.encode(), ((_HEADER_LENGTH, b"%d" % json_bytes),))


def _render(answer: DirectAnswer) -> Response:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, headers=headers | {"content-type": answer.content_type.decode()})


def _render_ready(model: str, ready: bool) -> JSONResponse:
    if ready:
        return JSONResponse({"name": model, "ready": True})
    return JSONResponse({"name": model, "ready": False, "error": f"{model} is being loaded; try again soon"}, 503)


def _require_readable(content_type: str | None) -> None:
    """Raises UnsupportedMediaType unless it is JSON, JSON and binary, or missing, as some clients leave it out."""
    if content_type in (None, "application/json", OCTETS):
        return
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("", OCTETS) and not strict_json.is_json(kind):
        raise UnsupportedMediaType(f"{kind[:80]} is not supported; send application/json or {OCTETS}")


def _render_metadata(model: ModelMetadata) -> dict[str, Any]:
    return {
        "name": model.name,
        "versions": model.versions,
        "platform": model.platform,
        "inputs": [_render_tensor(tensor) for tensor in model.inputs],
        "outputs": [_render_tensor(tensor) for tensor in model.outputs],
    }


def _render_tensor(tensor: TensorMetadata) -> dict[str, Any]:
    parameters = {"parameters": tensor.parameters} if tensor.parameters else {}
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape, **parameters}
