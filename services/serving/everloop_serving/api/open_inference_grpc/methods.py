"""The methods of the protocol's service, over the handlers that REST has too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from everloop_serving.api.open_inference_grpc.calls import Call, Calls
from everloop_serving.api.open_inference_grpc.messages import (
    read_infer_request,
    read_message,
    write_infer_answer,
    write_metadata,
)
from everloop_serving.api.open_inference_grpc.protocol import open_inference_pb2 as pb
from everloop_serving.handlers.inference import InferenceHandlers
from everloop_shared.access.identity import current_identity
from everloop_shared.commands import CommandEdge
from everloop_shared.errors import NotFound, Unavailable

INFERENCE: str = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


@dataclass
class InferenceService:
    """Answers the calls of `inference.GRPCInferenceService`; `is_ready` says whether serving is ready."""

    handlers: InferenceHandlers
    commands: CommandEdge
    is_ready: Callable[[], bool]

    def methods(self, calls: Calls) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The handlers by method."""
        answers = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.infer,
        }
        return {f"/{INFERENCE}/{name}": calls.method(name, answer) for name, answer in answers.items()}

    async def server_live(self, message: bytes, call: Call) -> bytes:
        """The process answers."""
        return pb.ServerLiveResponse(live=True).SerializeToString()

    async def server_ready(self, message: bytes, call: Call) -> bytes:
        """As /readyz."""
        return pb.ServerReadyResponse(ready=self.is_ready()).SerializeToString()

    async def server_metadata(self, message: bytes, call: Call) -> bytes:
        """What this is."""
        return pb.ServerMetadataResponse(name="everloop", version="2", extensions=["parameters"]).SerializeToString()

    async def model_ready(self, message: bytes, call: Call) -> bytes:
        """Whether a model predicts; one that there is not is not ready."""
        request = read_message(pb.ModelReadyRequest, message)
        current_identity().require("models.read", request.name)
        try:
            ready = self.handlers.is_ready(request.name, request.version or None)
        except (NotFound, Unavailable):
            ready = False
        return pb.ModelReadyResponse(ready=ready).SerializeToString()

    async def model_metadata(self, message: bytes, call: Call) -> bytes:
        """The versions, inputs and outputs of a model."""
        request = read_message(pb.ModelMetadataRequest, message)
        current_identity().require("models.read", request.name)
        return write_metadata(self.handlers.describe(request.name, request.version or None))

    async def infer(self, message: bytes, call: Call) -> bytes:
        """Predictions; the deadline of the call is that of the request."""
        command = await self.commands.accept(call.metadata)
        request, raw = read_infer_request(message)
        current_identity().require("predict", request.model)
        timer, left = self.handlers.requests.predictions.timer, call.seconds_left
        deadline = None if left is None else timer() + left
        return write_infer_answer(await self.handlers.infer(command, request, call.traceparent, deadline), raw)
