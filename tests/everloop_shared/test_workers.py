"""The supervisor of several workers: restarts, signals, exit status, and the port they share."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from tests.builders.running import until
from tests.processes import runs

from everloop.local.ports import HOST, free_port
from everloop_shared.workers import share_port

pytestmark = pytest.mark.process
PROGRAM = """
import os, signal, sys
from everloop_shared import workers

workers.RESTART = workers.Backoff(first_s=0.01, longest_s=0.05)

def say(line):
    os.write(1, line.encode() + b"\\n")

def run(worker):
    say(f"{{worker.number}} {{'rejoins' if worker.rejoins else 'starts'}}")
    {body}

sys.exit(workers.WorkerSupervisor("example", 2, "127.0.0.1", {port}, run).run())
"""


@contextmanager
def supervised(body: str, port: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A supervisor of two workers that run `body`; killed at the end."""
    command = [sys.executable, "-c", PROGRAM.format(body=body, port=port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def started(process: subprocess.Popen[str], count: int) -> list[str]:
    """The next lines that workers printed when they started."""
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


def test_a_worker_that_ends_is_started_again_and_told_that_another_serves() -> None:
    with supervised("signal.pause()") as process:
        first = started(process, 2)
        os.kill(psutil.Process(process.pid).children()[0].pid, signal.SIGKILL)

        again = started(process, 1)

    assert sorted(first) == ["0 starts", "1 starts"]
    assert again[0] in ("0 rejoins", "1 rejoins")


def test_a_stop_signal_reaches_all_workers_and_their_end_is_awaited() -> None:
    on_signal = "signal.signal(signal.SIGTERM, lambda *_: (say('stopped'), sys.exit(0)))"
    with supervised(f"{on_signal}; say('set'); signal.pause()") as process:
        started(process, 4)
        process.send_signal(signal.SIGTERM)

        status, lines = process.wait(10), started(process, 2)

    assert (status, lines) == (0, ["stopped", "stopped"])


@pytest.mark.parametrize(("body", "status"), [("sys.exit(1)", 1), ("sys.exit(2)", 2)])
def test_it_gives_up_where_no_worker_can_be_started(body: str, status: int) -> None:
    with supervised(body) as process:
        assert process.wait(20) == status


async def test_the_workers_end_with_the_supervisor_however_it_ends() -> None:
    with supervised("signal.pause()") as process:
        started(process, 2)
        workers = psutil.Process(process.pid).children()

        process.kill()

        await until(lambda: not any(map(runs, workers)))
    assert len(workers) == 2


def test_a_port_that_another_process_has_is_refused() -> None:
    with socket.create_server((HOST, free_port())) as taken, supervised("pass", taken.getsockname()[1]) as process:
        assert process.stderr is not None
        assert process.wait(20) != 0
        assert "EVERLOOP_EXAMPLE_PORT" in process.stderr.read()


def test_connections_are_distributed_among_the_workers_and_none_is_reset_while_the_sockets_are_held() -> None:
    listeners = share_port(HOST, 0, 2)
    clients = [socket.create_connection((HOST, listeners[0].getsockname()[1])) for _ in range(64)]

    accepted = [_accept_all(listener) for listener in listeners]

    assert sum(map(len, accepted)) == 64
    assert min(map(len, accepted)) > 0
    for each in (*listeners, *clients, *accepted[0], *accepted[1]):
        each.close()


def _accept_all(listener: socket.socket) -> list[socket.socket]:
    found = []
    while True:
        try:
            found.append(listener.accept()[0])
        except BlockingIOError:
            return found
