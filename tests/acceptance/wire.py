"""Row 6: what travels over the loopback interface, and what ports answer to those who do not speak TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Self

from tests.acceptance.forged import SPEC
from tests.acceptance.house import House, check, say, until

LOOP, FIELD, ENTITY = "loop-4711-of-nobody", "secretfieldname", "entity-4711-of-nobody"
ROWS = 2_000
ALL_PROTOCOLS = 3


class Capture:
    """All packets of this machine to itself, searched for words; needs the right to open raw sockets."""

    def __init__(self, words: list[str]) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024 * 1024)
        self.socket.bind(("lo", 0))
        self.socket.settimeout(0.2)
        self.words, self.found, self.bytes = {word.encode() for word in words if word}, set[bytes](), 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        self._thread.join()
        self.socket.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                packet = self.socket.recv(70_000)
            except TimeoutError:
                continue
            self.bytes += len(packet)
            self.found |= {word for word in self.words - self.found if word in packet}


def wire(house: House) -> None:
    """Apply, 2,000 rows, a backup: nothing is in clear. Ports answer nothing to plain requests."""
    _refuse_plain(house)
    canary = "a-word-that-is-sent-in-clear"
    token = house.make_key("admin")
    secrets = [house.owner(), token, token.rpartition("_")[2], *_private_keys(house)]
    try:
        capture = Capture([canary, LOOP, FIELD, ENTITY, *secrets])
    except (PermissionError, AttributeError):
        say("skip capture of the loopback interface: no right to open raw sockets (CAP_NET_RAW)")
        return
    with capture:
        applied = house.apply(LOOP, SPEC.replace("{x:", f"{{{FIELD}:"))
        rows = [{"id": f"w{i}", "entity": ENTITY, "data": {FIELD: i / ROWS}} for i in range(ROWS)]
        for first in range(0, ROWS, 500):
            house.tell("POST", "ingest", f"/v1/loops/{LOOP}/events", rows[first : first + 500])
        predicted = until(lambda: house.status(LOOP).get("predictions") == ROWS, 60)
        labels = [{"id": f"w{i}", "label": i * 2 > ROWS} for i in range(ROWS)]
        for first in range(0, ROWS, 500):
            house.tell("POST", "ingest", f"/v1/loops/{LOOP}/labels", labels[first : first + 500])
        joined = until(lambda: house.status(LOOP).get("outcomes") == ROWS, 60)
        house.predicted_by(LOOP, FIELD)
        saved = house.everloop("backup", str(house.folder / "backup"))
        seen, size = set(capture.found), capture.bytes
        _say_in_clear(canary)
        heard = until(lambda: canary.encode() in capture.found, 10)
    check(applied and predicted and joined, f"apply, {ROWS:,} rows with their labels", house.status(LOOP))
    check(saved.returncode == 0, "a backup is made", saved.stderr[-300:])
    check(heard and size > 1_000_000, f"the capture hears what is sent in clear ({size / 1e6:.1f} MB of packets)", size)
    check(not seen, "no field, entity, loop, token or key is in clear", seen)


def _private_keys(house: House) -> list[str]:
    return [house.secret_in(file) for file in house.folder.rglob("*.key")]


def _say_in_clear(word: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.sendall(word.encode())
        with server.accept()[0] as accepted:
            accepted.recv(100)


def _refuse_plain(house: House) -> None:
    ports = listening(house)
    trusting = ssl.create_default_context(cafile=house.services()["tls"]["ca"])
    open_, deaf = [], []
    for port, process in ports.items():
        for plain in (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                connection.settimeout(15)
                try:
                    connection.sendall(plain)
                    answer = connection.recv(1_000)
                except OSError:
                    answer = b""
            if answer and answer[0] != 0x15:  # an alert of TLS says that plain is not spoken
                open_.append((port, process, answer[:60]))
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                with trusting.wrap_socket(connection, server_hostname="127.0.0.1") as wrapped:
                    if wrapped.version() not in ("TLSv1.2", "TLSv1.3"):
                        deaf.append((port, process, str(wrapped.version())))
        except OSError as e:
            deaf.append((port, process, str(e)))
    check(len(ports) >= 9 and not open_, f"{len(ports)} ports of all its processes answer nothing in clear", open_)
    check(not deaf, "each of them speaks TLS 1.2 or 1.3, with a certificate of the authority", deaf)


def listening(house: House) -> dict[int, str]:
    """Every TCP port on which a process of the installation listens, found as `ss -ltnp` does."""
    inodes = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A":
                inodes[f"socket:[{parts[9]}]"] = int(parts[1].rpartition(":")[2], 16)
    found = {}
    for pid, command in house.processes():
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue
            if target in inodes:
                found[inodes[target]] = command
    return found
