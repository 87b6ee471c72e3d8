"""The gRPC endpoint of real processes: a stop under load, a kill, several workers behind one port."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from tests.serving.grpc_calls import grpc_client, typed
from tests.serving.processes import ServingProcesses, serving_processes

from everloop.local.ports import HOST, free_port
from everloop_schemas.serving import PredictionMade
from everloop_serving.api.open_inference_grpc.protocol import open_inference_pb2 as pb

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]
NO_BROKER = "127.0.0.1:9"
WITHIN_S = 60.0


@dataclass
class GrpcLoad:
    """Calls by several clients, each one after the other, and what became of them."""

    port: int
    answered: dict[str, bool] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    stopped: bool = False

    async def run(self, client: int) -> None:
        """Send until told to stop."""
        async with grpc_client(self.port) as calls:
            number = 0
            while not self.stopped:
                name, number = f"c{client}-{number}", number + 1
                try:
                    answer = await calls.infer(typed({"price": [0.5], "demand": [0.5]}, id=name))
                except grpc.aio.AioRpcError as e:
                    self.failed[e.code().name] += 1
                    await asyncio.sleep(0.01)
                else:
                    assert answer.id == name
                    self.answered[name] = True

    async def reach(self, count: int) -> None:
        """Wait until so many calls were answered."""
        deadline = time.monotonic() + WITHIN_S
        while len(self.answered) < count:
            assert time.monotonic() < deadline, (len(self.answered), self.failed)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def under_grpc_load(port: int, clients: int = 8) -> AsyncIterator[GrpcLoad]:
    """A load that ends with the block."""
    load = GrpcLoad(port)
    tasks = [asyncio.create_task(load.run(n)) for n in range(clients)]
    try:
        yield load
    finally:
        load.stopped = True
        await asyncio.gather(*tasks)


async def started(serving: ServingProcesses) -> ServingProcesses:
    """Serving that knows the loop, without a broker."""
    serving.store_state(serving.state())
    serving.start()
    await serving.knows_loop()
    return serving


async def ids_stored(serving: ServingProcesses) -> list[str]:
    """The ids of the predictions in the spools."""
    return [e.subject for e in await serving.stored() if isinstance(e, PredictionMade)]


@pytest.mark.parametrize("workers", [1, 2])
async def test_sigterm_answers_every_call_that_was_accepted(tmp_path: Path, workers: int) -> None:
    with serving_processes(tmp_path, NO_BROKER, workers=workers, grpc_port=free_port()) as serving:
        await started(serving)
        async with under_grpc_load(serving.grpc_port) as load:
            await load.reach(300)

            serving.signal(signal.SIGTERM)
            status = await serving.exit_status()

        stored = await ids_stored(serving)

    assert status == 0
    assert set(load.failed) <= {"UNAVAILABLE", "CANCELLED"}  # what arrived after the signal, of which nothing is stored
    assert len(stored) == len(set(stored))
    assert set(stored) == load.answered.keys()


async def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    with serving_processes(tmp_path, NO_BROKER, workers=1, grpc_port=free_port()) as serving:
        await started(serving)
        async with under_grpc_load(serving.grpc_port) as load:
            await load.reach(300)

            serving.signal(signal.SIGKILL)
            await serving.exit_status()

        stored = await ids_stored(serving)

    assert load.answered.keys() <= set(stored)


async def test_workers_share_the_port_and_act_as_one(tmp_path: Path) -> None:
    with serving_processes(tmp_path, NO_BROKER, workers=2, grpc_port=free_port()) as serving:
        await started(serving)
        answers = list[pb.ModelInferResponse]()
        for _ in range(8):  # a connection each: the kernel chooses the worker
            async with grpc_client(serving.grpc_port) as client:
                answers.append(await client.infer(typed(id="same")))
        async with under_grpc_load(serving.grpc_port) as load:
            await load.reach(100)
            serving.worker_processes()[1].kill()
            before = len(load.answered)
            await load.reach(before + 300)
        serving.signal()
        await serving.exit_status()
        stored = await ids_stored(serving)

    assert all(answer == answers[0] for answer in answers)
    assert set(load.failed) <= {"UNAVAILABLE"}
    assert stored.count("same-0") == 1
    assert load.answered.keys() <= set(stored)


async def test_a_port_that_another_serving_listens_on_is_refused(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        for workers in (1, 2):
            with serving_processes(tmp_path, NO_BROKER, workers=workers, grpc_port=port) as serving:
                serving.start()
                assert await serving.exit_status(WITHIN_S) == 2
                assert "EVERLOOP_SERVING_GRPC_PORT" in serving.log
