"""Fuzzed messages to the methods of serving's gRPC: nearly right ones by the protocol's stock classes, and bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2 as health  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2 as reflection  # type: ignore[import-untyped]
from tests.acceptance.fuzz_values import ODD_TEXTS, mutated
from tritonclient.grpc import service_pb2 as protocol  # type: ignore[import-untyped]

INFER = "/inference.GRPCInferenceService/ModelInfer"
DATATYPES = ("FP64", "FP64", "FP64", "FP32", "INT64", "BOOL", "BYTES", "UINT8", "FP16", "", "x" * 2_000)
MODELS = ("guarded", "guarded", "guarded", "fuzz-a", "nothing")
BROKEN = ("UNKNOWN", "INTERNAL", "DATA_LOSS")
"""What a server answers where it broke."""


def messages(rng: Random, methods: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """A method, and the bytes of its message."""
    while True:
        method = INFER if rng.random() < 0.6 else rng.choice(methods)
        body = _inference(rng) if method == INFER else _named(rng, method)
        way = rng.random()
        if way < 0.3:
            body = mutated(rng, body)
        elif way < 0.35:
            body = rng.randbytes(rng.randint(0, 300))
        yield method, body


def _text(rng: Random, usual: Sequence[str]) -> str:
    return rng.choice(usual) if rng.random() < 0.85 else rng.choice(ODD_TEXTS)


def _named(rng: Random, method: str) -> bytes:
    if method.endswith(("ModelReady", "ModelMetadata")):
        made = protocol.ModelReadyRequest(name=_text(rng, MODELS), version=_text(rng, ("", "0")))
        return bytes(made.SerializeToString())
    if method.endswith("ServerReflectionInfo"):
        return _reflection(rng)
    if "Health" in method:
        return bytes(health.HealthCheckRequest(service=_text(rng, ("", "nothing"))).SerializeToString())
    return b"" if rng.random() < 0.7 else rng.randbytes(rng.randint(1, 50))


def _reflection(rng: Random) -> bytes:
    asked = _text(rng, ("inference.GRPCInferenceService", "inference.ModelInferRequest", "open_inference.proto"))
    extension = reflection.ExtensionRequest(containing_type=asked, extension_number=rng.choice((0, 1, -1, 2**31 - 1)))
    field = rng.choice(("file_by_filename", "file_containing_symbol", "all_extension_numbers_of_type", "list_services"))
    if rng.random() < 0.2:
        made = reflection.ServerReflectionRequest(file_containing_extension=extension)
    else:
        made = reflection.ServerReflectionRequest(**{field: asked})
    return bytes(made.SerializeToString())


def _inference(rng: Random) -> bytes:
    made = protocol.ModelInferRequest(model_name=_text(rng, MODELS), model_version=_text(rng, ("", "", "0")))
    made.id = _text(rng, ("", f"g{rng.randint(0, 300)}"))
    rows = rng.choice((1, 1, 2, 5))
    for name in rng.choice((("x",), ("x",), ("x", "id"), ("x", "x"), ("y",), ())):
        tensor = made.inputs.add(name=_text(rng, (name,)), datatype=_text(rng, DATATYPES))
        tensor.shape.extend(rng.choice(((rows,), (rows,), (rows, 1), (-1,), (0,), (2**62, 2**62), (rows + 1,), ())))
        _fill(rng, made, tensor, rows)
    for _ in range(rng.choice((0, 0, 1))):
        made.outputs.add(name=_text(rng, ("prediction", "probabilities", "version")))
    if rng.random() < 0.2:
        made.parameters[_text(rng, ("explain", "time", "entity"))].bool_param = True
    return bytes(made.SerializeToString())


def _fill(rng: Random, request: Any, tensor: Any, rows: int) -> None:
    if rng.random() < 0.4:
        request.raw_input_contents.append(struct.pack(f"<{rows}d", *(rng.random() for _ in range(rows))))
        return
    count = rows if rng.random() < 0.8 else rng.choice((0, rows + 1, 1_000))
    if tensor.datatype == "BYTES":
        tensor.contents.bytes_contents.extend(rng.randbytes(8) for _ in range(count))
    elif tensor.datatype == "INT64":
        tensor.contents.int64_contents.extend(rng.choice((0, -(2**63), 2**63 - 1)) for _ in range(count))
    else:
        odd = (float("nan"), float("inf"), 1e308, 0.5, -1.0)
        tensor.contents.fp64_contents.extend(rng.choice(odd) for _ in range(count))


def send(channel: grpc.Channel, method: str, body: bytes, token: str) -> tuple[str, str]:
    """The code that answers, and what it says."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    many, one = (cast(Any, kind) for kind in (channel.stream_stream, channel.unary_unary))
    try:
        if method.endswith(("Watch", "ServerReflectionInfo")):
            call = many(method)(iter([body]), metadata=metadata, timeout=10)
            next(call, None)
            call.cancel()
            return "OK", ""
        one(method)(body, metadata=metadata, timeout=20)
        return "OK", ""
    except grpc.RpcError as e:
        return str(e.code().name), str(e.details())
