"""The floor of the figure `doors_grpc`: grpc.aio with a handler that answers the same bytes, and nothing else."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import uvloop

METHOD = "/inference.GRPCInferenceService/ModelInfer"


class Echo(grpc.GenericRpcHandler):
    """Answers each message with itself."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """The one handler."""
        return grpc.unary_unary_rpc_method_handler(self.echo)

    async def echo(self, message: bytes, context: object) -> bytes:
        """The answer."""
        return message


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Echo()])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
