"""ML Metadata's gRPC service over a SQLite file, of the stubs and the store in its wheel: PORT FILE.

Google's own server is a binary that no package has. Runs in the environment mlmd.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from ml_metadata import errors  # type: ignore[import-not-found]
from ml_metadata.metadata_store.metadata_store import MetadataStore  # type: ignore[import-not-found]
from ml_metadata.proto import metadata_store_pb2, metadata_store_service_pb2  # type: ignore[import-not-found]

SERVICE = metadata_store_service_pb2.DESCRIPTOR.services_by_name["MetadataStoreService"]
CODES = {code.value[0]: code for code in grpc.StatusCode}


def serve(port: int, file: str) -> None:
    """Until the process ends."""
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri, config.sqlite.connection_mode = file, 3  # READWRITE_OPENCREATE
    store = MetadataStore(config)
    handlers = {method.name: _handler(store, method) for method in SERVICE.methods}
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def _handler(store: Any, method: Any) -> Any:
    request = getattr(metadata_store_service_pb2, method.input_type.name)
    answer = getattr(metadata_store_service_pb2, method.output_type.name)

    def handle(given: Any, context: Any) -> Any:
        response = answer()
        try:
            store._call(method.name, given, response)  # noqa: SLF001 - what each of its methods calls
        except errors.StatusError as e:
            context.abort(CODES[e.error_code], str(e))
        return response

    return grpc.unary_unary_rpc_method_handler(handle, request.FromString, answer.SerializeToString)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
