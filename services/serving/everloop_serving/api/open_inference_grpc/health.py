"""The standard health service (grpc.health.v1): its status follows readiness, for the server and for each service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

from everloop_serving.api.open_inference_grpc.messages import receive
from everloop_serving.api.open_inference_grpc.streams import Context, Streams

HEALTH = "grpc.health.v1.Health"
POLL_S = 0.25
"""How often a watch looks at the readiness."""


class HealthService:
    """Answers for the server (the empty name) and for `services`.

    The library's servicer has a status that is set: it would be late, and where one of two watches of a service ends,
    the other hears nothing more.
    """

    def __init__(self, is_serving: Callable[[], bool], services: Sequence[str], streams: Streams) -> None:
        self._is_serving, self._services, self._streams = is_serving, services, streams

    def methods(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The handlers by method."""
        write = health_pb2.HealthCheckResponse.SerializeToString
        return {
            f"/{HEALTH}/Check": grpc.unary_unary_rpc_method_handler(self.check, response_serializer=write),
            f"/{HEALTH}/Watch": grpc.unary_stream_rpc_method_handler(self.watch, response_serializer=write),
        }

    async def check(self, message: bytes, context: Context) -> health_pb2.HealthCheckResponse:
        """The status now."""
        request = await receive(health_pb2.HealthCheckRequest, message, context)
        if not self._is_known(request.service):
            known = ", ".join(self._services)
            await context.abort(grpc.StatusCode.NOT_FOUND, f"service: is none of {known}; leave it empty for all")
        return self._answer(request.service)

    async def watch(self, message: bytes, context: Context) -> None:
        """The status now, and each time that it changes."""
        request = await receive(health_pb2.HealthCheckRequest, message, context)
        await self._streams.run(lambda: self._watch(request.service, context), context)

    async def _watch(self, service: str, context: Context) -> None:
        sent = None
        while True:
            if (answer := self._answer(service)) != sent:
                await context.write(answer)
                sent = answer
            await asyncio.sleep(POLL_S)

    def _answer(self, service: str) -> health_pb2.HealthCheckResponse:
        if not self._is_known(service):
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        states = health_pb2.HealthCheckResponse
        return states(status=states.SERVING if self._is_serving() else states.NOT_SERVING)

    def _is_known(self, service: str) -> bool:
        return service == "" or service in self._services
