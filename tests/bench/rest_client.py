"""The load generator of the figure `rest`: keep-alive connections, each of which sends one request after another.

Run as a process of its own: `python -m tests.bench.rest_client PORT PATH CONNECTIONS REQUESTS [TOKEN]`, with one
request body per line of standard input: JSON, or what `as_binary` of the figure `doors` writes. With 0 requests it goes
on until SIGTERM. It prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
import time
from dataclasses import dataclass, field
from itertools import cycle
from typing import cast

import uvloop

HEAD = (
    "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{more}\r\n"
)
ANSWERED = b"HTTP/1.1 200"


@dataclass
class Load:
    """The requests that are still to be sent, and what came of those that were."""

    requests: list[bytes]
    left: int
    finished: asyncio.Future[None]
    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    open: int = 0

    def __post_init__(self) -> None:
        self._next = cycle(self.requests)

    def take(self) -> bytes | None:
        """The next request; None once all are sent."""
        if not self.left:
            return None
        self.left -= 1
        return next(self._next)

    def stop(self) -> None:
        """Send no more."""
        self.left = 0


class Connection(asyncio.Protocol):
    """Sends one request at a time and waits for its whole answer."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""
        self._missing = -1
        self._sent_at = 0.0
        self._waits = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast(asyncio.Transport, transport)
        self._load.open += 1
        self._send()

    def data_received(self, data: bytes) -> None:
        """Send the next request once the answer is complete."""
        self._received += data
        if self._missing < 0:
            head, end, _ = self._received.partition(b"\r\n\r\n")
            if not end:
                return
            at = head.lower().index(b"content-length: ") + 16
            self._missing = len(head) + 4 + int(head[at:].split(b"\r\n", 1)[0])
        if len(self._received) < self._missing:
            return
        if self._received.startswith(ANSWERED):
            self._load.latencies.append(time.perf_counter() - self._sent_at)
        else:
            self._load.failures.append(self._received[:300].decode(errors="replace"))
        self._received, self._missing, self._waits = b"", -1, False
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that ends before its answer is a failure."""
        if self._waits:
            self._load.failures.append(f"connection lost: {exc}")
        self._load.open -= 1
        if not self._load.open and not self._load.finished.done():
            self._load.finished.set_result(None)

    def _send(self) -> None:
        request = self._load.take()
        if request is None:
            self._transport.close()
            return
        self._waits, self._sent_at = True, time.perf_counter()
        self._transport.write(request)


async def run(
    port: int, path: str, connections: int, requests: int, bodies: list[bytes], more: str = ""
) -> dict[str, object]:
    """Send the requests and measure them."""
    loop = asyncio.get_running_loop()
    whole = []
    for body in bodies:
        whole.append(_request(path, port, body, more))
    load = Load(whole, requests or sys.maxsize, loop.create_future())
    loop.add_signal_handler(signal.SIGTERM, load.stop)
    started = time.perf_counter()
    await asyncio.gather(
        *(loop.create_connection(lambda: Connection(load), "127.0.0.1", port) for _ in range(connections))
    )
    await load.finished
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": time.perf_counter() - started,
        "cpu_s": used.ru_utime + used.ru_stime,
        "failures": load.failures[:5],
        "failed": len(load.failures),
        "latencies_us": sorted(round(1e6 * s) for s in load.latencies),
    }


def _request(path: str, port: int, line: bytes, more: str) -> bytes:
    """A whole request; a line that begins with a number has tensors in binary, and is in hexadecimal digits."""
    if not line[:1].isdigit():
        return HEAD.format(path=path, port=port, kind="application/json", length=len(line), more=more).encode() + line
    header_bytes, _, digits = line.partition(b" ")
    body = bytes.fromhex(digits.decode())
    kind = f"application/octet-stream\r\ninference-header-content-length: {header_bytes.decode()}"
    return HEAD.format(path=path, port=port, kind=kind, length=len(body), more=more).encode() + body


if __name__ == "__main__":
    _, port, path, connections, requests, *token = sys.argv
    more = "".join(f"authorization: Bearer {each}\r\n" for each in token)
    lines = sys.stdin.buffer.read().splitlines()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(run(int(port), path, int(connections), int(requests), lines, more))
    sys.stdout.write(json.dumps(found))
