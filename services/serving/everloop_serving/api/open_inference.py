"""The Open Inference Protocol, version 2, over the same predictions: a loop is a model, its fields are the inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from everloop_features.observation import Observation
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import PredictionMade
from everloop_serving.api.timeouts import HEADER, deadline_of
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.errors import ObservationRejected
from everloop_serving.handlers.requests import MAX_ROWS, RequestHandlers, rejection
from everloop_serving.settings import ServingSettings
from everloop_shared.commands import CommandEdge
from everloop_shared.errors import ERRORS_LIMIT, FieldError
from everloop_shared.http.json_body import json_body
from everloop_shared.tracing import current_traceparent

DATATYPES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "string": "BYTES"}
INTEGERS = tuple(f"{sign}INT{bits}" for sign in ("U", "") for bits in (8, 16, 32, 64))
READABLE_DATATYPES = ("BOOL", *INTEGERS, "FP16", "FP32", "FP64", "BF16", "BYTES")


def router(
    handlers: RequestHandlers, commands: CommandEdge, settings: ServingSettings, not_ready: Callable[[], str | None]
) -> APIRouter:
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
        reason = not_ready()
        return JSONResponse({"ready": reason is None}, 503 if reason else 200)

    @routes.get("/models/{loop}")
    async def model(loop: str) -> JSONResponse:
        return JSONResponse(_render_metadata(handlers.require_loop(loop)))

    @routes.get("/models/{loop}/ready")
    async def model_ready(loop: str) -> JSONResponse:
        loading = handlers.require_loop(loop).loading
        return JSONResponse({"name": loop, "ready": not loading}, 503 if loading else 200)

    @routes.post("/models/{loop}/infer")
    async def infer(loop: str, request: Request) -> JSONResponse:
        command = await commands.accept(request.headers)
        spec = handlers.require_loop(loop).spec
        body = await json_body(request, settings.max_body_bytes)
        columns, ids = parse_tensors(body)
        rows = [handlers.parse_observation(loop, row) for row in to_bodies(columns, ids)]
        observations = _require_valid(rows, columns)
        deadline = deadline_of(request.headers.get(HEADER), handlers.predictions.timer())
        predictions = await command.run(
            lambda actor: handlers.predict_all(loop, observations, current_traceparent(), deadline)
        )
        return JSONResponse(render_outputs(loop, body.get("id"), spec, predictions))

    return routes


def _render_metadata(loop: ServedLoop) -> dict[str, Any]:
    fields = loop.spec.fields.items()
    return {
        "name": loop.loop,
        "versions": [v.version for v in (loop.champion, loop.candidate) if v],
        "platform": "everloop",
        "inputs": [{"name": n, "datatype": DATATYPES[f.type], "shape": [-1]} for n, f in fields],
        "outputs": [{"name": "prediction", "datatype": _prediction_datatype(loop.spec), "shape": [-1]}],
    }


def _prediction_datatype(spec: LoopSpec) -> str:
    """The datatype of predictions: those of a regression have fractions, even where its labels are whole numbers."""
    return DATATYPES["number" if spec.task == "regression" else spec.label_type]


def parse_tensors(body: Any) -> tuple[dict[str, list[Any]], list[str | None]]:
    """The request's tensors by name, and an id for each row; raises ObservationRejected."""
    inputs = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(inputs, list) or not inputs or not all(isinstance(i, dict) for i in inputs):
        raise _rejected("inputs", 'must be a list of {"name", "shape", "datatype", "data"}, one for each field')
    columns: dict[str, list[Any]] = {}
    for i, tensor in enumerate(inputs):
        name, data = tensor.get("name"), tensor.get("data")
        if not isinstance(name, str) or not isinstance(data, list):
            raise _rejected(f"inputs.{i}", "needs a name and, in data, a flat list of values")
        if name in columns:
            raise _rejected(f"inputs.{i}.name", f"{name[:80]!r} is there twice; keep one")
        if wrong := _find_misfit(tensor, len(data)):
            raise _rejected(f"inputs.{i}.{wrong[0]}", wrong[1])
        columns[name] = data
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1 or not 1 <= max(lengths) <= MAX_ROWS:
        raise _rejected("inputs", f"all need the same number of values, 1 to {MAX_ROWS:,}")
    return columns, _row_ids(body.get("id"), lengths.pop())


def to_bodies(columns: dict[str, list[Any]], ids: list[str | None]) -> list[dict[str, Any]]:
    """A request body for each row of the tensors."""
    named = [{} if i is None else {"id": i} for i in ids]
    return [{**name, "data": {k: v[n] for k, v in columns.items()}} for n, name in enumerate(named)]


def _find_misfit(tensor: dict[str, Any], values: int) -> tuple[str, str] | None:
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    if datatype is not None and datatype not in READABLE_DATATYPES:
        return "datatype", f"must be one of {', '.join(READABLE_DATATYPES)}"
    if shape is None:
        return None
    sizes = [n for n in shape if type(n) is int and 0 <= n <= MAX_ROWS] if isinstance(shape, list) else []
    if not sizes or len(sizes) != len(shape) or len(sizes) > 2 or prod(sizes) != values or sizes[0] != values:
        return "shape", f"must be [{values}], as many as there are values in data"
    return None


def _row_ids(request_id: Any, count: int) -> list[str | None]:
    if request_id is None:
        return [None] * count
    if not isinstance(request_id, str):
        raise _rejected("id", "must be text, or left out")
    return [request_id] if count == 1 else [f"{request_id}-{n}" for n in range(count)]


def _require_valid(rows: list[Observation | list[FieldError]], columns: dict[str, list[Any]]) -> list[Observation]:
    """The observations of the rows; raises ObservationRejected with each error by tensor and row."""
    wrong = [_locate(e, n, list(columns)) for n, row in enumerate(rows) if isinstance(row, list) for e in row]
    if wrong:
        raise rejection(list(dict.fromkeys(wrong))[:ERRORS_LIMIT])
    return [row for row in rows if not isinstance(row, list)]


def _locate(error: FieldError, row: int, names: list[str]) -> FieldError:
    """The error of a row with its place in the request: a value, a tensor, or the request itself."""
    name = error.field.removeprefix("data.")
    if name == error.field:
        return error
    if name not in names:
        return FieldError("inputs", f"{name}: {error.error}")
    unknown = error.error.endswith("leave it out")
    return FieldError(f"inputs.{names.index(name)}" + ("" if unknown else f".data.{row}"), error.error)


def render_outputs(
    loop: str, request_id: str | None, spec: LoopSpec, predictions: Sequence[PredictionMade]
) -> dict[str, Any]:
    """The answer to an inference request."""
    n = len(predictions)
    datatype = _prediction_datatype(spec)
    outputs = [
        {"name": "prediction", "shape": [n], "datatype": datatype, "data": [p.data.prediction for p in predictions]},
        {"name": "prediction_id", "shape": [n], "datatype": "BYTES", "data": [p.subject for p in predictions]},
        {"name": "version", "shape": [n], "datatype": "BYTES", "data": [p.data.version for p in predictions]},
    ]
    body = {"model_name": loop, "model_version": predictions[-1].data.version, "outputs": outputs}
    return body | ({"id": request_id} if request_id is not None else {})


def _rejected(field: str, error: str) -> ObservationRejected:
    return ObservationRejected(f"{field} {error}", [FieldError(field, error)])
