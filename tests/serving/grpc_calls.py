"""A client of the gRPC endpoint without a library for its protocol: messages, methods and what errors carry."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from everloop.local.ports import HOST
from everloop_serving.api.open_inference_grpc.protocol import error_details_pb2 as details
from everloop_serving.api.open_inference_grpc.protocol import open_inference_pb2 as pb

INFERENCE = "/inference.GRPCInferenceService/"
PRICES = {"price": [0.1, 0.9], "demand": [0.5, 0.5]}


class GrpcClient:
    """Calls by the name of the method."""

    def __init__(self, channel: grpc.aio.Channel, port: int) -> None:
        self.channel, self.port = channel, port

    async def __call__(self, method: str, request: Any, **options: Any) -> Any:
        """The answer to a request; raises grpc.aio.AioRpcError."""
        answer = getattr(pb, f"{method}Response").FromString
        call: Any = self.channel.unary_unary(INFERENCE + method, lambda m: m.SerializeToString(), answer)
        return await call(request, timeout=options.pop("timeout", 20), **options)

    async def infer(self, request: pb.ModelInferRequest | None = None, **options: Any) -> pb.ModelInferResponse:
        """An inference, that of `typed()` where none is given."""
        answer: pb.ModelInferResponse = await self("ModelInfer", request or typed(), **options)
        return answer

    async def send(self, message: bytes, **options: Any) -> bytes:
        """The answer to these bytes as the message of ModelInfer."""
        call: Any = self.channel.unary_unary(INFERENCE + options.pop("method", "ModelInfer"))
        answer: bytes = await call(message, timeout=20, **options)
        return answer

    def begin(self) -> Any:
        """A call of ModelInfer that has sent no message yet."""
        call: Any = self.channel.stream_unary(INFERENCE + "ModelInfer")
        return call()


@asynccontextmanager
async def grpc_client(port: int) -> AsyncIterator[GrpcClient]:
    """A client with one connection."""
    async with grpc.aio.insecure_channel(f"{HOST}:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield GrpcClient(channel, port)


def typed(columns: Mapping[str, Sequence[float]] = PRICES, model: str = "market", **more: Any) -> pb.ModelInferRequest:
    """A request with its values in typed contents; `parameters` are texts."""
    parameters = more.pop("parameters", {})
    request = pb.ModelInferRequest(model_name=model, **more)
    for name, values in columns.items():
        request.inputs.add(name=name, datatype="FP64", shape=[len(values)]).contents.fp64_contents.extend(values)
    for name, value in parameters.items():
        request.parameters[name].string_param = value
    return request


def raw(columns: Mapping[str, Sequence[float]] = PRICES, model: str = "market", **more: Any) -> pb.ModelInferRequest:
    """A request with its values in raw contents."""
    request = pb.ModelInferRequest(model_name=model, **more)
    for name, values in columns.items():
        request.inputs.add(name=name, datatype="FP64", shape=[len(values)])
        request.raw_input_contents.append(struct.pack(f"<{len(values)}d", *values))
    return request


def details_of(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The details of an error by the name of their message."""
    found = {name: value for name, value in error.trailing_metadata() or () if name == "grpc-status-details-bin"}
    status = details.Status.FromString(found["grpc-status-details-bin"])  # type: ignore[arg-type]
    assert (status.code, status.message) == (error.code().value[0], error.details())
    kinds: dict[str, Any] = {
        "ErrorInfo": details.ErrorInfo,
        "BadRequest": details.BadRequest,
        "RetryInfo": details.RetryInfo,
    }
    names = {each.type_url.rpartition(".")[2]: each.value for each in status.details}
    return {name: kinds[name].FromString(value) for name, value in names.items()}
