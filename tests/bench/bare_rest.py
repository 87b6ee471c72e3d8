"""The bare handler of the figure `rest`: Starlette, msgspec and a model, and nothing of what Everloop promises."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.bench.bare_onnx import bare_model

Observation = msgspec.defstruct(
    "Observation",
    [(name, float) for name in ("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")],
)


class Body(msgspec.Struct):
    """The body of a request."""

    entity: str
    data: Observation  # type: ignore[valid-type]


class Answer(msgspec.Struct):
    """The body of an answer."""

    prediction: bool
    probability: float


def app(model: Any) -> Starlette:
    """One route."""
    decode, encode = msgspec.json.Decoder(Body).decode, msgspec.json.Encoder().encode

    async def predict(request: Request) -> Response:
        body = decode(await request.body())
        probability = model.predict_proba_one(msgspec.structs.asdict(body.data)).get(True, 0.0)
        return Response(encode(Answer(probability > 0.5, probability)), media_type="application/json")

    return Starlette(routes=[Route("/predict", predict, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(
        app(bare_model(Path(sys.argv[2]))),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
