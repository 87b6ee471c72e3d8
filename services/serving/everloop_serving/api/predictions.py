"""Predictions on request, those made lately, and which revision of a loop serves."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from everloop_schemas.serving import PredictionMade
from everloop_serving.handlers.requests import RequestHandlers
from everloop_serving.settings import ServingSettings
from everloop_shared.commands import Actor, CommandEdge
from everloop_shared.http.json_body import json_body
from everloop_shared.tracing import current_traceparent

_EXAMPLE = {"id": "order-17", "entity": "shop-3", "time": "2024-05-01T12:00:00Z", "data": {"price": 12.5}}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}, "example": _EXAMPLE}},
    }
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The prediction, its version and role; its record survives this process."},
    404: {"description": "There is no loop of this name."},
    413: {"description": "The body, or the record made of it, is too large."},
    415: {"description": "A content type that this endpoint does not read."},
    422: {"description": "It does not fit the loop's schema; `errors` name the fields and the fix."},
    429: {"description": "The broker has been away for too long; retry after `Retry-After` seconds."},
    503: {"description": "Starting, or the disk refuses writes; retry after `Retry-After` seconds."},
}


def router(handlers: RequestHandlers, commands: CommandEdge, settings: ServingSettings) -> APIRouter:
    """The routes under /v1. `everloop apply` waits for the loop's revision."""
    routes = APIRouter(prefix="/v1/loops/{loop}", tags=["serving"])

    @routes.post("/predict", summary="Predict from one observation", responses=_RESPONSES, openapi_extra=_BODY)
    async def predict(loop: str, request: Request) -> JSONResponse:
        command = await commands.accept(request.headers)
        handlers.require_loop(loop)  # an unknown loop is reported before the body is read
        body = await json_body(request, settings.max_event_bytes)

        async def predict_one(actor: Actor) -> list[PredictionMade]:
            return [await handlers.predict(loop, body, current_traceparent())]

        [prediction] = await command.run(predict_one)
        return JSONResponse(render(prediction))

    @routes.get("/predictions/{prediction_id:path}", summary="A prediction made lately")
    async def get_prediction(loop: str, prediction_id: str) -> JSONResponse:
        return JSONResponse(render(handlers.find_prediction(loop, prediction_id)))

    @routes.get("", summary="The revision of the loop's spec that serves")
    async def get_revision(loop: str) -> JSONResponse:
        return JSONResponse({"loop": loop, "revision": handlers.require_loop(loop).revision})

    return routes


def render(prediction: PredictionMade) -> dict[str, Any]:
    """The response body of a prediction."""
    data = prediction.data
    body: dict[str, Any] = {"id": prediction.subject, "prediction": data.prediction}
    if data.probabilities is not None:
        body["probabilities"] = data.probabilities
    return body | {"version": data.version, "role": data.role, "features": data.features}
