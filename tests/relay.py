"""A relay between a client and a server on this machine, which can be away, or take connections and say nothing."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Literal, Self

HOST = "127.0.0.1"


class Relay:
    """Forwards connections to a port. `away` refuses them, `silent` takes them and never answers, `up` forwards."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0), reuse_port=False)
        self.port: int = self._listener.getsockname()[1]
        self._target = 0
        self._state: Literal["up", "away", "silent"] = "up"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._state = "away"
        with suppress(OSError):  # wakes the thread that accepts
            socket.create_connection((HOST, self.port), timeout=1).close()
        self._listener.close()
        self._close_all()

    def forward_to(self, port: int) -> None:
        """Forward to this port."""
        self._target = port

    def turn(self, state: Literal["up", "away", "silent"]) -> None:
        """Change how connections are treated; those that are open end."""
        self._state = state
        self._close_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._state == "away":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, as of no server
                client.close()
                continue
            with self._lock:
                self._open.add(client)
            if self._state == "up":
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        server = socket.create_connection((HOST, self._target))
        with self._lock:
            self._open.add(server)
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        self._close(source, sink)

    def _close(self, *sockets: socket.socket) -> None:
        for one in sockets:
            with self._lock:
                self._open.discard(one)
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _close_all(self) -> None:
        with self._lock:
            every = tuple(self._open)
        self._close(*every)
