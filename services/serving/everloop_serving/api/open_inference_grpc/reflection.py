"""Reflection (grpc.reflection.v1alpha): clients without the .proto ask which calls and messages there are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection, reflection_pb2  # type: ignore[import-untyped]

from everloop_serving.api.open_inference_grpc.messages import receive
from everloop_serving.api.open_inference_grpc.protocol import open_inference_pb2
from everloop_serving.api.open_inference_grpc.streams import Context, Streams

REFLECTION = reflection.SERVICE_NAME
LONGEST_S = 60.0


class ReflectionService:
    """Answers from the descriptors of the services, which are in one pool for it."""

    def __init__(self, services: Sequence[str], streams: Streams) -> None:
        pool = open_inference_pb2.DESCRIPTOR.pool
        for file in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
            pool.AddSerializedFile(file.serialized_pb)
        self._servicer, self._streams = reflection.aio.ReflectionServicer(services, pool), streams

    def methods(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The handlers by method."""
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
            self.reflect, response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString
        )
        return {f"/{REFLECTION}/ServerReflectionInfo": handler}

    async def reflect(self, messages: AsyncIterator[bytes], context: Context) -> None:
        """An answer to each request."""

        async def requests() -> AsyncIterator[Any]:
            async for message in messages:
                yield await receive(reflection_pb2.ServerReflectionRequest, message, context)

        async def answer() -> None:
            async for response in self._servicer.ServerReflectionInfo(requests(), context):
                await context.write(response)

        await self._streams.run(answer, context)
