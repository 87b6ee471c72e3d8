"""The load generator of the figure `doors_grpc`: connections, each of which makes one call after another.

Run as a process of its own: `python -m tests.bench.grpc_client PORT CONNECTIONS CALLS`, with one message per line of
standard input, in hexadecimal digits. It prints what `tests.bench.rest_client` prints.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from itertools import cycle
from typing import Any

import grpc
import uvloop
from tests.bench.bare_grpc import METHOD


async def run(port: int, connections: int, calls: int, messages: list[bytes]) -> dict[str, object]:
    """Make the calls and measure them."""
    options = [("grpc.use_local_subchannel_pool", 1)]  # else all channels share a connection
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(connections)]
    numbers, following = iter(range(calls)), cycle(messages)
    latencies, failures = list[float](), list[str]()

    async def send(channel: Any) -> None:
        call = channel.unary_unary(METHOD)
        for _ in numbers:
            sent_at = time.perf_counter()
            try:
                await call(next(following))
            except grpc.aio.AioRpcError as e:
                failures.append(str(e.details()))
            else:
                latencies.append(time.perf_counter() - sent_at)

    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    started, before = time.perf_counter(), _cpu_s()
    await asyncio.gather(*map(send, channels))
    seconds, cpu_s = time.perf_counter() - started, _cpu_s() - before
    await asyncio.gather(*(channel.close() for channel in channels))
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "failures": failures[:5],
        "failed": len(failures),
        "latencies_us": sorted(round(1e6 * s) for s in latencies),
    }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    _, port, connections, calls = sys.argv
    sent = [bytes.fromhex(line.decode()) for line in sys.stdin.buffer.read().split()]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(run(int(port), int(connections), int(calls), sent))
    sys.stdout.write(json.dumps(found))
