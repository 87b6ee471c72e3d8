"""Predictions before the framework: what nearly every request asks for, at a fraction of the cost (decision 0153).

Whatever is not read here with certainty, every error among it, is left to the routes in `predictions.py` and
`open_inference.py`, which give the same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from everloop_features.observation import Observation
from everloop_schemas.serving import PredictionMade
from everloop_serving.api import answers, open_inference
from everloop_serving.api.open_inference import Inference
from everloop_serving.api.timeouts import HEADER, deadline_of
from everloop_serving.domain.new_predictions import MAX_ROWS
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.handlers.requests import RequestHandlers
from everloop_serving.settings import ServingSettings
from everloop_shared.commands import Actor, Command, CommandEdge
from everloop_shared.http.direct import DirectAnswer, DirectRoute, Headers
from everloop_shared.strict_json import NDJSON
from everloop_shared.tracing import current_traceparent

JSON = b"application/json"
LINES = NDJSON[0].encode()


def direct_routes(
    handlers: RequestHandlers, inference: Inference, commands: CommandEdge, settings: ServingSettings
) -> list[DirectRoute]:
    """The two endpoints that predict."""
    direct = _DirectPredictions(handlers, inference, commands, settings)
    return [
        DirectRoute("/v1/loops/", "/predict", direct.predict),
        DirectRoute("/v2/models/", "/infer", direct.infer),
    ]


@dataclass
class _DirectPredictions:
    handlers: RequestHandlers
    inference: Inference
    commands: CommandEdge
    settings: ServingSettings

    async def predict(self, name: str, headers: Headers, body: bytes) -> DirectAnswer | None:
        """POST /v1/loops/{loop}/predict."""
        command = await self.commands.accept(headers)
        kind, loop = headers.raw(b"content-type"), self.handlers.loops.get(name)
        if loop is None:
            return None
        if kind == JSON and body[:1] == b"{" and len(body) <= self.settings.max_event_bytes:
            if (row := loop.decoder.decode(body)) and self.handlers.has_valid_times((row,)):
                [prediction] = await self._run(command, name, headers, (row,))
                return DirectAnswer(answers.encode_one(prediction))
            return None
        rows = self._read_rows(loop, kind, body)
        if not rows or not self.handlers.has_valid_times(rows):
            return None
        predictions = await self._run(command, name, headers, rows)
        if kind == LINES:
            return DirectAnswer(answers.encode_lines(predictions), LINES)
        return DirectAnswer(answers.encode_list(predictions))

    async def infer(self, name: str, headers: Headers, body: bytes) -> DirectAnswer | None:
        """POST /v2/models/{loop}/infer, or .../{loop}/versions/{version}/infer."""
        model, versioned, version = name.partition(open_inference.VERSIONS)
        if "/" in model or "/" in version:
            return None
        return await self.inference.answer(model, version if versioned else None, headers, body)

    def _read_rows(self, loop: ServedLoop, kind: bytes | None, body: bytes) -> list[Observation] | None:
        if kind == JSON and body[:1] == b"[":
            return loop.decoder.decode_list(body, MAX_ROWS)
        return loop.decoder.decode_lines(body, MAX_ROWS) if kind == LINES else None

    async def _run(
        self, command: Command, loop: str, headers: Headers, rows: Sequence[Observation]
    ) -> Sequence[PredictionMade]:
        timeout, handlers = headers.raw(HEADER.encode()), self.handlers
        deadline = deadline_of(timeout.decode("latin-1"), handlers.predictions.timer()) if timeout is not None else None

        async def predict(actor: Actor) -> list[PredictionMade]:
            return await handlers.predict_all(loop, rows, current_traceparent(), deadline)

        return await command.run(predict)
