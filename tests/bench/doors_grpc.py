"""The Open Inference Protocol by gRPC against the native route, and grpc.aio with an empty handler: 1 row, 100 rows."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from statistics import median

from tests.bench import lists, stream
from tests.bench.figures import Figure, Sample, against
from tests.bench.rest import BODIES, Load, bodies, delivered, loaded, ours, ours_served
from tests.bench.settings import Settings
from tests.bench.subject import Subject, program

from everloop.local.ports import free_port
from everloop_schemas.envelope import Fields
from everloop_serving.api.open_inference_grpc.protocol import open_inference_pb2 as pb

RATIO = 0.8
CONNECTIONS = {1: 32, lists.ROWS: lists.CONNECTIONS}
"""By rows of a request."""


async def measure(settings: Settings) -> list[Figure]:
    """The same rows by the native route, by gRPC, and as bytes to an empty handler, in turn."""
    figures, port = list[Figure](), free_port()
    async with (
        ours_served(settings, "doors-grpc.", serving_grpc_port=port) as (subject, bus),
        bare_served(settings) as (bare, bare_port),
    ):
        for rows, connections in CONNECTIONS.items():
            count = max(settings.rest_requests // rows, lists.LISTS)
            found, native, floor = list[Load](), list[Load](), list[Load]()
            for run in range(settings.runs + 1):
                one = await ours(subject, bus, connections, count, bodies() if rows == 1 else lists.lists(), rows)
                calls = load(subject, port, connections, count, messages(rows))
                other = await delivered(subject, bus, count, rows, calls)
                echo = await load(bare, bare_port, connections, count, messages(rows))
                if run or settings.quick:  # the first one warms all up
                    native.append(one)
                    found.append(other)
                    floor.append(echo)
            figures += _figures(rows, found, native, floor)
    return figures


def _figures(rows: int, found: Sequence[Load], native: Sequence[Load], floor: Sequence[Load]) -> list[Figure]:
    what = "OIP by gRPC, " + ("one row" if rows == 1 else f"{rows} rows a call")
    client = median(one.client_cpu_us for one in found)
    note = f"the load generator used {client:.0f} us a call; {sum(one.failed for one in found)} failed"
    pair = against(f"{what}, against the native route", _samples(found), _samples(native), RATIO, note)
    empty = against(f"{what}, against grpc.aio with an empty handler", _samples(found), _samples(floor), 0.0)
    return [replace(pair, unit="calls/s"), replace(empty, unit="calls/s", goal="", met=None)]


def _samples(loads: Sequence[Load]) -> list[Sample]:
    return [one.sample for one in loads]


def messages(rows: int) -> list[bytes]:
    """Requests over all entities, in raw contents as Triton's client sends them."""
    found = list(stream.rows(BODIES if rows == 1 else lists.LISTS * rows))
    return [_message(found[first : first + rows]) for first in range(0, len(found), rows)]


def _message(rows: Sequence[tuple[int, Fields, bool]]) -> bytes:
    request, n = pb.ModelInferRequest(model_name=stream.LOOP), len(rows)
    for name in rows[0][1]:
        request.inputs.add(name=name, datatype="FP64", shape=[n])
        request.raw_input_contents.append(struct.pack(f"<{n}d", *(fields[name] for _, fields, _ in rows)))
    entities = [f"e{i % stream.ENTITIES}" for i, _, _ in rows]
    if n == 1:
        request.parameters["entity"].string_param = entities[0]
    else:
        request.inputs.add(name="entity", datatype="BYTES", shape=[n])
        request.raw_input_contents.append(b"".join(struct.pack("<I", len(e)) + e.encode() for e in entities))
    return request.SerializeToString()


async def load(subject: Subject, port: int, connections: int, count: int, messages: Sequence[bytes]) -> Load:
    """Run the load generator against a server."""
    before = subject.cpu_s()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.grpc_client", str(port), str(connections), str(count)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(b"\n".join(message.hex().encode() for message in messages))
    return loaded(json.loads(output), 1e6 * (subject.cpu_s() - before) / count)


@asynccontextmanager
async def bare_served(settings: Settings) -> AsyncIterator[tuple[Subject, int]]:
    """The empty handler, listening, and its port."""
    folder, port = settings.folder / "bare-grpc", free_port()
    folder.mkdir(parents=True, exist_ok=True)
    async with program(["tests.bench.bare_grpc", str(port)], folder / "log", {}) as subject:
        yield subject, port  # the load generator waits until it listens
