"""Several processes of one service behind one port: forked, watched and stopped by the process that started them."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from everloop_shared.backoff import Backoff
from everloop_shared.errors import Misconfigured

log = logging.getLogger(__name__)
T = TypeVar("T")
RESTART = Backoff(first_s=0.1, longest_s=5.0)
STEADY_S = 10.0
"""A worker that ran for so long had not failed to start."""
FAILED_STARTS = 5
"""When every worker has failed to start so often in a row, this process gives up, and ends with a failure."""
STOP_S = 15.0
"""Seconds a worker may take from the stop signal to its end before it is killed; it should end earlier by itself."""
MISCONFIGURED = 2
LISTEN_BACKLOG = 2_048
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


@dataclass(frozen=True)
class Worker:
    """One of `count` processes that share a port.

    `listeners` has the listening socket of each worker, all of which every worker can accept from. `sockets` is a
    folder for sockets between the workers, private to this user. A worker that `rejoins` was started while others
    serve.
    """

    number: int
    count: int
    listeners: Sequence[socket.socket]
    sockets: Path
    rejoins: bool


@dataclass
class _Process:
    pid: int = 0
    started_at: float = 0.0
    failures: int = 0
    start_at: float = 0.0


@dataclass
class WorkerSupervisor:
    """Runs `count` workers until SIGTERM or SIGINT; a worker that ends before that is started again, with pauses.

    Each worker has a listening socket of its own, among which the kernel distributes connections (SO_REUSEPORT). This
    process holds them open, so that connections that wait at the socket of a worker that ended are not reset: the
    others accept them.
    """

    service: str
    count: int
    host: str
    port: int
    run_worker: Callable[[Worker], None]
    """Runs a worker in a process of its own; it returns, or raises SystemExit, when the worker ends."""
    own_ports: Mapping[str, int] = field(default_factory=dict)
    """Further ports by the name of their setting, on which each worker listens by itself (SO_REUSEPORT)."""
    _processes: list[_Process] = field(default_factory=list)
    _listeners: list[socket.socket] = field(default_factory=list)
    _stop_at: float | None = None
    _status: int = 0

    def run(self) -> int:
        """Return the exit status: 0 after a signal, 1 when no worker can be started, 2 when one is misconfigured.

        Raises Misconfigured where the port cannot be used.
        """
        self._processes = [_Process() for _ in range(self.count)]
        with contextlib.ExitStack() as stack:
            self._listeners = self._use_port("PORT", self.port, lambda: share_port(self.host, self.port, self.count))
            stack.callback(self._close_listeners)
            for name, port in self.own_ports.items():
                stack.enter_context(self._use_port(name, port, partial(reserve_port, self.host, port)))
            sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="everloop-")))
            wakeups = stack.enter_context(_woken_by_signals(self._on_stop_signal))
            while not self._has_ended():
                self._start_due(sockets)
                select.select([wakeups], [], [], self._pause_s())
                with contextlib.suppress(BlockingIOError):
                    os.read(wakeups, 1_000)
                self._collect_ended()
        return self._status

    def _use_port(self, setting: str, port: int, use: Callable[[], T]) -> T:
        try:
            return use()
        except OSError as e:
            variables, address = f"EVERLOOP_{self.service.upper()}_{setting}, EVERLOOP_HOST", f"{self.host}:{port}"
            raise Misconfigured(f"{variables}: cannot listen on {address} ({e.strerror}); choose another port") from e

    def _has_ended(self) -> bool:
        return self._stop_at is not None and not any(process.pid for process in self._processes)

    def _start_due(self, sockets: Path) -> None:
        for number, process in enumerate(self._processes):
            if self._stop_at is None and not process.pid and time.monotonic() >= process.start_at:
                rejoins = any(other.pid for other in self._processes) and process.failures > 0
                worker = Worker(number, self.count, self._listeners, sockets, rejoins)
                process.pid, process.started_at = self._fork(worker), time.monotonic()

    def _fork(self, worker: Worker) -> int:
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # so that the child does not run this process's handlers
        if pid := os.fork():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            log.info("worker started", extra={"worker": worker.number, "worker_pid": pid})
            return pid
        status = 1
        try:
            _become_worker(parent)
            self.run_worker(worker)
            status = 0
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _collect_ended(self) -> None:
        for number, process in enumerate(self._processes):
            if not process.pid or not (ended := os.waitpid(process.pid, os.WNOHANG))[0]:
                continue
            status = os.waitstatus_to_exitcode(ended[1])
            ran_s = time.monotonic() - process.started_at
            process.pid = 0
            if self._stop_at is not None:
                self._status = self._status or (0 if status in (0, -signal.SIGTERM) else 1)
                continue
            process.failures = 1 if ran_s > STEADY_S else process.failures + 1
            process.start_at = time.monotonic() + RESTART.pause_s(process.failures)
            log.error("worker ended", extra={"worker": number, "status": status, "failures": process.failures})
            if status == MISCONFIGURED:
                self._stop(MISCONFIGURED)
            elif all(p.failures >= FAILED_STARTS for p in self._processes):
                log.error("no worker can be started")
                self._stop(1)

    def _on_stop_signal(self) -> None:
        if self._stop_at is None:
            self._stop(0)

    def _stop(self, status: int) -> None:
        self._status, self._stop_at = status, time.monotonic() + STOP_S
        self._close_listeners()  # the workers accept what waits; what came later would be reset
        self._signal_all(signal.SIGTERM)

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)

    def _pause_s(self) -> float | None:
        now = time.monotonic()
        if self._stop_at is not None:
            if now >= self._stop_at:
                self._signal_all(signal.SIGKILL)
                return 1.0
            return self._stop_at - now
        due = [process.start_at - now for process in self._processes if not process.pid]
        return max(0.0, min(due)) if due else None


def share_port(host: str, port: int, count: int) -> list[socket.socket]:
    """Listening sockets on one port, among which the kernel distributes connections; raises OSError where it is taken.

    Port 0 takes a free one.
    """
    port = _free_port(host, port)
    sockets = []
    for _ in range(count):
        sockets.append(
            socket.create_server((host, port), family=_family(host), backlog=LISTEN_BACKLOG, reuse_port=True)
        )
        sockets[-1].setblocking(False)
    return sockets


def reserve_port(host: str, port: int) -> socket.socket:
    """Keep a port for sockets that share it: others cannot take it. Raises OSError where it is taken.

    This one does not listen, so the kernel gives it no connection.
    """
    reserved = socket.socket(_family(host))
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind((host, _free_port(host, port)))
    return reserved


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0; raises OSError where it is taken, as sockets that share a port do not notice."""
    with socket.create_server((host, port), family=_family(host)) as alone:
        taken: int = alone.getsockname()[1]
    return taken


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@contextlib.contextmanager
def _woken_by_signals(on_stop: Callable[[], None]) -> Iterator[int]:
    """A descriptor that becomes readable with each signal; `on_stop` is called at SIGTERM and SIGINT."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: on_stop())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    yield reader


def _become_worker(parent: int) -> None:
    """Drop what belongs to the supervisor, and end with it, however it ends (Linux)."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
