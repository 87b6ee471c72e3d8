"""Predictions on request, those made lately, and which revision of a loop serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from everloop_schemas.serving import PredictionMade
from everloop_serving.api import answers
from everloop_serving.api.bodies import read_bodies
from everloop_serving.api.schemas import PREDICTION_ERRORS, Prediction, RequestedObservation
from everloop_serving.api.timeouts import HEADER, TIMEOUT_PARAMETER, deadline_of
from everloop_serving.domain.new_predictions import MAX_ROWS
from everloop_serving.handlers.requests import RequestHandlers
from everloop_serving.settings import ServingSettings
from everloop_shared.access.limits import take_rows
from everloop_shared.commands import Actor, CommandEdge
from everloop_shared.http.cloudevents import content_type
from everloop_shared.http.openapi import schema_of
from everloop_shared.http.schemas import Revision
from everloop_shared.strict_json import NDJSON
from everloop_shared.tracing import current_traceparent

_EXAMPLE = {"id": "order-17", "entity": "shop-3", "time": "2024-05-01T12:00:00Z", "data": {"price": 12.5}}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"One observation, or a list or lines of up to {MAX_ROWS:,}, answered in their order; "
        "or CloudEvents 1.0, structured, as a batch, or one in binary mode.",
        "content": {
            "application/json": {
                "schema": schema_of(RequestedObservation, also_lists=True),
                "example": _EXAMPLE,
            },
            NDJSON[0]: {"schema": {"type": "string"}},
        },
    },
    "parameters": [TIMEOUT_PARAMETER],
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The prediction, its version and role; its record survives this process. A list for a list.",
        "content": {NDJSON[0]: {"schema": {"type": "string"}}},
    },
    **{status: {"description": text} for status, text in PREDICTION_ERRORS.items()},
}


def router(handlers: RequestHandlers, commands: CommandEdge, settings: ServingSettings) -> APIRouter:
    """The routes under /v1. `everloop apply` waits for the loop's revision."""
    routes = APIRouter(prefix="/v1/loops/{loop}", tags=["serving"])

    @routes.post(
        "/predict",
        summary="Predict from observations",
        response_model=Prediction | list[Prediction],
        responses=_RESPONSES,
        openapi_extra=_BODY,
    )
    async def predict(loop: str, request: Request) -> Response:
        command = await commands.accept(request.headers)
        handlers.require_loop(loop)  # an unknown loop is reported before the body is read
        deadline = deadline_of(request.headers.get(HEADER), handlers.predictions.timer())
        body, trace = await read_bodies(request, settings)
        single = not isinstance(body, list)
        rows = [handlers.require_observation(loop, body)] if single else handlers.require_observations(loop, body)
        take_rows(len(rows))

        async def predict_rows(actor: Actor) -> list[PredictionMade]:
            return await handlers.predict_all(loop, rows, trace or current_traceparent(), deadline)

        return _answer(request, await command.run(predict_rows), single)

    @routes.get("/predictions/{prediction_id:path}", response_model=Prediction, summary="A prediction made lately")
    async def get_prediction(loop: str, prediction_id: str) -> JSONResponse:
        return JSONResponse(answers.render(await handlers.look_up_prediction(loop, prediction_id)))

    @routes.get("", response_model=Revision, summary="The revision of the loop's spec that serves")
    async def get_revision(loop: str) -> JSONResponse:
        return JSONResponse({"loop": loop, "revision": await handlers.look_up_revision(loop)})

    return routes


def _answer(request: Request, predictions: Sequence[PredictionMade], single: bool) -> Response:
    if single:
        return Response(answers.encode_one(predictions[0]), media_type="application/json")
    if content_type(request) in NDJSON:
        return Response(answers.encode_lines(predictions), media_type=NDJSON[0])
    return Response(answers.encode_list(predictions), media_type="application/json")
