"""The Open Inference Protocol, version 2, over the same predictions: a loop is a model, its fields are the inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import PredictionMade
from everloop_serving.domain.predict import Live
from everloop_serving.errors import ObservationRejected
from everloop_serving.handlers import Handlers
from everloop_serving.settings import ServingSettings
from everloop_shared.errors import FieldError
from everloop_shared.http.json_body import json_body
from everloop_shared.tracing import current_traceparent

ROWS = 1_000
DATATYPES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "string": "BYTES"}


def router(handlers: Handlers, settings: ServingSettings, ready: Callable[[], str | None]) -> APIRouter:
    """The routes under /v2."""
    routes = APIRouter(prefix="/v2", tags=["open inference protocol"])

    @routes.get("")
    async def server() -> JSONResponse:
        return JSONResponse({"name": "everloop", "version": "2", "extensions": []})

    @routes.get("/health/live")
    async def live() -> JSONResponse:
        return JSONResponse({"live": True})

    @routes.get("/health/ready")
    async def is_ready() -> JSONResponse:
        reason = ready()
        return JSONResponse({"ready": reason is None}, 503 if reason else 200)

    @routes.get("/models/{loop}")
    async def model(loop: str) -> JSONResponse:
        return JSONResponse(_metadata(handlers.revision(loop)))

    @routes.get("/models/{loop}/ready")
    async def model_ready(loop: str) -> JSONResponse:
        loading = handlers.revision(loop).loading
        return JSONResponse({"name": loop, "ready": not loading}, 503 if loading else 200)

    @routes.post("/models/{loop}/infer")
    async def infer(loop: str, request: Request) -> JSONResponse:
        spec = handlers.revision(loop).spec
        body = await json_body(request, settings.max_body_bytes)
        rows = _rows(body)
        made = [await handlers.predict(loop, row, current_traceparent()) for row in rows]
        return JSONResponse(_outputs(loop, body.get("id"), spec, made))

    return routes


def _metadata(live: Live) -> dict[str, Any]:
    fields = live.spec.fields.items()
    return {
        "name": live.loop,
        "versions": [v.version for v in (live.champion, live.candidate) if v],
        "platform": "everloop",
        "inputs": [{"name": n, "datatype": DATATYPES[f.type], "shape": [-1]} for n, f in fields],
        "outputs": [{"name": "prediction", "datatype": DATATYPES[live.spec.label_type], "shape": [-1]}],
    }


def _rows(body: Any) -> list[dict[str, Any]]:
    """The request's tensors as observations, one a row; raises ObservationRejected."""
    inputs = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(inputs, list) or not inputs or not all(isinstance(i, dict) for i in inputs):
        raise _rejected("inputs", 'must be a list of {"name", "shape", "datatype", "data"}, one for each field')
    columns: dict[str, list[Any]] = {}
    for i, tensor in enumerate(inputs):
        name, data = tensor.get("name"), tensor.get("data")
        if not isinstance(name, str) or not isinstance(data, list):
            raise _rejected(f"inputs.{i}", "needs a name and, in data, a flat list of values")
        columns[name] = data
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1 or not 1 <= max(lengths) <= ROWS:
        raise _rejected("inputs", f"all need the same number of values, 1 to {ROWS:,}")
    ids = _ids(body.get("id"), lengths.pop())
    return [{**i, "data": {k: v[n] for k, v in columns.items()}} for n, i in enumerate(ids)]


def _ids(request_id: Any, rows: int) -> list[dict[str, Any]]:
    if request_id is None:
        return [{}] * rows
    return [{"id": request_id}] if rows == 1 else [{"id": f"{request_id}-{n}"} for n in range(rows)]


def _outputs(loop: str, request_id: str | None, spec: LoopSpec, made: list[PredictionMade]) -> dict[str, Any]:
    n = len(made)
    datatype = DATATYPES[spec.label_type]
    outputs = [
        {"name": "prediction", "shape": [n], "datatype": datatype, "data": [m.data.prediction for m in made]},
        {"name": "prediction_id", "shape": [n], "datatype": "BYTES", "data": [m.subject for m in made]},
        {"name": "version", "shape": [n], "datatype": "BYTES", "data": [m.data.version for m in made]},
    ]
    answer = {"model_name": loop, "model_version": made[-1].data.version, "outputs": outputs}
    return answer | ({"id": request_id} if request_id is not None else {})


def _rejected(field: str, error: str) -> ObservationRejected:
    return ObservationRejected(f"{field} {error}", [FieldError(field, error)])
