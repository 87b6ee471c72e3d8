"""What serving does with a request of the Open Inference Protocol, by REST and by gRPC alike."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from everloop_features.observation import Observation
from everloop_serving.domain.explained_outputs import PARAMETER, is_asked_for
from everloop_serving.domain.inference import (
    InferenceAnswer,
    InferenceRequest,
    ModelMetadata,
    describe,
    render_answer,
    require_outputs,
)
from everloop_serving.domain.inference_rows import read_rows
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.domain.tensors import rejected
from everloop_serving.handlers.requests import MAX_EXPLAINED, RequestHandlers
from everloop_shared.access.limits import take_rows
from everloop_shared.commands import Command


@dataclass
class InferenceHandlers:
    """Handles requests whose tensors were read by the codec of a protocol; `requests` predicts."""

    requests: RequestHandlers

    def describe(self, model: str, version: str | None = None) -> ModelMetadata:
        """The metadata of a model; raises LoopNotFound or VersionNotFound."""
        loop = self.requests.require_loop(model)
        loop.require_version(version)
        return describe(loop)

    def is_ready(self, model: str, version: str | None = None) -> bool:
        """Whether a version of the model is in memory; raises LoopNotFound or VersionNotFound."""
        loop = self.requests.require_loop(model)
        loop.require_version(version)
        return not loop.loading

    async def infer(
        self, command: Command, request: InferenceRequest, traceparent: str | None, deadline: float | None
    ) -> InferenceAnswer:
        """The answer to a request: all of its rows are checked before the first is predicted.

        `deadline` is as for `RequestHandlers.predict_all`. Raises what that raises, or ObservationRejected with each
        error by tensor and row.
        """
        loop, rows = self._read(request)
        take_rows(len(rows))
        predictions = await command.run(
            lambda actor: self.requests.predict_all(request.model, rows, traceparent, deadline, request.version)
        )
        return render_answer(loop, request, predictions)

    def infer_at_once(self, request: InferenceRequest, traceparent: str | None) -> InferenceAnswer | None:
        """As `infer`; None, before anything is changed, where that would have to wait for something."""
        loop, rows = self._read(request)
        predictions = self.requests.predict_at_once(request.model, rows, traceparent, request.version)
        if predictions is None:
            return None
        take_rows(len(rows))
        return render_answer(loop, request, predictions)

    def _read(self, request: InferenceRequest) -> tuple[ServedLoop, list[Observation]]:
        """The loop, and the observations of a request that is right in everything."""
        requests = self.requests
        loop = requests.require_loop(request.model)
        loop.require_version(request.version)
        explains = is_asked_for(request.parameters)
        require_outputs(loop, request.outputs, explains)
        now = requests.clock()
        rows = read_rows(
            loop, request.inputs, request.id, request.parameters, lambda time: requests.times.find_violation(time, now)
        )
        if explains:
            if len(rows) > MAX_EXPLAINED:
                most = f"only {MAX_EXPLAINED} rows of a request are explained; send the others in another one"
                raise rejected(f"parameters.{PARAMETER}", most)
            rows = [replace(row, explain=True) for row in rows]
        return loop, rows
