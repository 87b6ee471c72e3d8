"""Predictions before the framework: what nearly every request asks for, at a fraction of the cost (decision 0153).

Whatever is not read here with certainty, every error among it, is left to the routes in `predictions.py` and
`open_inference.py`, which give the same answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from everloop_features.observation import Observation
from everloop_schemas.serving import PredictionMade
from everloop_serving.api import answers, open_inference
from everloop_serving.api.open_inference import Inference
from everloop_serving.api.timeouts import HEADER, deadline_of
from everloop_serving.domain.new_predictions import MAX_ROWS
from everloop_serving.handlers.requests import RequestHandlers
from everloop_serving.settings import ServingSettings
from everloop_shared.access.limits import take_rows
from everloop_shared.commands import Actor, Command, CommandEdge
from everloop_shared.http.direct import DirectAnswer, DirectRoute, Headers
from everloop_shared.strict_json import NDJSON
from everloop_shared.tracing import current_traceparent

JSON = b"application/json"
LINES = NDJSON[0].encode()
TIMEOUT = HEADER.encode()


def direct_routes(
    handlers: RequestHandlers, inference: Inference, commands: CommandEdge, settings: ServingSettings
) -> list[DirectRoute]:
    """The two endpoints that predict."""
    direct = _DirectPredictions(handlers, inference, commands, settings)
    return [
        DirectRoute("/v1/loops/", "/predict", direct.predict, direct.predict_at_once),
        DirectRoute("/v2/models/", "/infer", direct.infer, direct.infer_at_once),
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
        kind = headers.raw(b"content-type")
        rows = None if headers.raw(b"ce-specversion") else self._read(name, kind, body)
        return None if rows is None else _answer(kind, body, await self._run(command, name, headers, rows))

    def predict_at_once(
        self, name: str, headers: Headers, body: bytes
    ) -> DirectAnswer | asyncio.Future[DirectAnswer] | None:
        """The same for a request that nothing has to be awaited for, unless it is another worker."""
        if self.commands.accept_at_once() is None or headers.raw(TIMEOUT) is not None:
            return None
        kind = headers.raw(b"content-type")
        rows = None if headers.raw(b"ce-specversion") else self._read(name, kind, body)
        if rows is None:
            return None
        trace = current_traceparent()
        if predictions := self.handlers.predict_at_once(name, rows, trace):
            take_rows(len(rows))
            return _answer(kind, body, predictions)
        asked = self.handlers.predict_elsewhere(name, rows, trace)
        if asked is None:
            return None
        take_rows(len(rows))
        return asyncio.ensure_future(_answer_later(kind, body, asked))

    async def infer(self, name: str, headers: Headers, body: bytes) -> DirectAnswer | None:
        """POST /v2/models/{loop}/infer, or .../{loop}/versions/{version}/infer."""
        model, versioned, version = name.partition(open_inference.VERSIONS)
        if "/" in model or "/" in version:
            return None
        return await self.inference.answer(model, version if versioned else None, headers, body)

    def infer_at_once(self, name: str, headers: Headers, body: bytes) -> DirectAnswer | None:
        """The same for a request that nothing has to be awaited for. Here the name is as in the address."""
        model, versioned, version = name.partition(open_inference.VERSIONS)
        if "/" in model or "/" in version or "%" in model:
            return None
        return self.inference.answer_at_once(model, unquote(version) if versioned else None, headers, body)

    def _read(self, name: str, kind: bytes | None, body: bytes) -> Sequence[Observation] | None:
        """The observations of a request; None where the framework's route has to answer."""
        loop = self.handlers.loops.get(name)
        if loop is None:
            return None
        rows: Sequence[Observation] | None = None
        if kind == JSON and body[:1] == b"{":
            if len(body) <= self.settings.max_event_bytes and (row := loop.decoder.decode(body)):
                rows = (row,)
        elif kind == JSON and body[:1] == b"[":
            rows = loop.decoder.decode_list(body, MAX_ROWS)
        elif kind == LINES:
            rows = loop.decoder.decode_lines(body, MAX_ROWS)
        return rows if rows and self.handlers.has_valid_times(rows) else None

    async def _run(
        self, command: Command, loop: str, headers: Headers, rows: Sequence[Observation]
    ) -> Sequence[PredictionMade]:
        take_rows(len(rows))
        timeout, handlers = headers.raw(TIMEOUT), self.handlers
        deadline = deadline_of(timeout.decode("latin-1"), handlers.predictions.timer()) if timeout is not None else None

        async def predict(actor: Actor) -> list[PredictionMade]:
            return await handlers.predict_all(loop, rows, current_traceparent(), deadline)

        return await command.run(predict)


async def _answer_later(
    kind: bytes | None, body: bytes, predictions: Awaitable[Sequence[PredictionMade]]
) -> DirectAnswer:
    return _answer(kind, body, await predictions)


def _answer(kind: bytes | None, body: bytes, predictions: Sequence[PredictionMade]) -> DirectAnswer:
    """The answer in the form of the request: one object, a list, or lines."""
    if kind == LINES:
        return DirectAnswer(answers.encode_lines(predictions), LINES)
    if body[:1] == b"{":
        return DirectAnswer(answers.encode_one(predictions[0]))
    return DirectAnswer(answers.encode_list(predictions))
