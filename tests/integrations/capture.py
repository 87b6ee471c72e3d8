"""Records what travels over the loopback interface, as `tcpdump -i lo` would."""

from __future__ import annotations

import socket
import threading
from typing import Self

import pytest

ALL_PROTOCOLS = 3
RECEIVE_BUFFER = 64 * 1024 * 1024


class Capture:
    """All packets of this machine to itself, while the block runs; Linux, and the right to open raw sockets."""

    def __init__(self) -> None:
        self.bytes = 0
        self._found: set[bytes] = set()
        self._stopped = threading.Event()
        self._words: set[bytes] = set()
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
        except (PermissionError, AttributeError):
            pytest.skip("no right to capture packets (CAP_NET_RAW)")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.2)
        self._thread = threading.Thread(target=self._run)

    def find(self, *words: str) -> None:
        """Look for these words from now on."""
        self._words |= {word.encode() for word in words}

    @property
    def found(self) -> set[str]:
        """The words that were seen in clear."""
        return {word.decode() for word in self._found}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                packet = self._socket.recv(70_000)
            except TimeoutError:
                continue
            self.bytes += len(packet)
            self._found |= {word for word in self._words - self._found if word in packet}
