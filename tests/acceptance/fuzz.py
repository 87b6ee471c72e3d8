"""Row 9: thousands of fuzzed requests to each door; nothing breaks, grows, or tells a secret."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from itertools import islice
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import grpc
from tests.acceptance.fuzz_grpc import BROKEN, messages, send
from tests.acceptance.fuzz_requests import Request, Requests, Route, malformed
from tests.acceptance.house import OPEN, SERVICES, House, check, say, until

MOST_GROWTH_BYTES = 20_000_000
WARM = 10_000
"""Requests per door before memory is measured: among so many are those whose answers need the most of it."""
LONGEST_ANSWER_BYTES = 20_000_000
AT_ONCE = 3
SPEC = """
task: binary
schema: {x: {type: number}}
features: [{fields: all}, {name: mean_of_three, mean: x, over: 3 events}]
models: [{preset: logistic}]
"""


@dataclass
class Found:
    """What came of the requests to one door."""

    door: str
    statuses: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.statuses.total()

    def add(self, status: str, body: bytes, secrets: list[bytes], asked: str) -> None:
        """Remember an answer."""
        self.statuses[status] += 1
        if any(secret in body for secret in secrets):
            self.told.append(asked)
        may_fail = status == "503" or (status == "504" and "Timeout-Ms" in asked)  # the caller gave it no time
        if (status.startswith("5") and not may_fail) or status in BROKEN:
            self.broken.append(f"{status} to {asked}: {body[:200]!r}")


class Connection:
    """Sends bytes to a service, and reads an answer by HTTP/1.1; opened again where the service has closed it."""

    def __init__(self, url: str, trust: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        self.address, self.trust = (parts.hostname or "", parts.port or 0), trust
        self.host = parts.netloc
        self._socket: socket.socket | None = None

    def open(self) -> socket.socket:
        """A new connection."""
        plain = socket.create_connection(self.address, 30)
        return self.trust.wrap_socket(plain, server_hostname=self.address[0]) if self.trust else plain

    def ask(self, wire: bytes, method: str) -> tuple[str, bytes]:
        """The status and the body of an answer; `none` where there is none at the second attempt either."""
        for _ in range(2):
            used = self._socket = self._socket or self.open()
            try:
                used.sendall(wire)
            except OSError:
                pass  # refused before its end: the answer may be there
            try:
                with HTTPResponse(used, method=method) as answer:
                    answer.begin()
                    got = str(answer.status), answer.read(LONGEST_ANSWER_BYTES)
                    if answer.will_close:
                        self.close()
                    return got
            except (OSError, HTTPException):
                self.close()
        return "none", b""

    def ask_once(self, wire: bytes) -> bytes:
        """Everything that is answered to bytes after which nothing comes."""
        with self.open() as used:
            used.settimeout(20)
            found = b""
            try:
                used.sendall(wire)
                if not self.trust:
                    used.shutdown(socket.SHUT_WR)
                while got := used.recv(65_536):
                    found += got
            except OSError:
                pass
            return found

    def close(self) -> None:
        """End it."""
        if self._socket:
            self._socket.close()
        self._socket = None


class Fuzz:
    """The doors of one installation."""

    def __init__(self, house: House, token: str) -> None:
        self.house, self.token = house, token
        self.secrets = [secret.encode() for secret in (house.owner(), token, *house.tokens) if secret]
        self.documents = {s: json.loads(house.tell("GET", s, "/openapi.json").body) for s in SERVICES}
        self.matrix = house.matrix()

    def doors(self) -> dict[str, tuple[str, list[Route]]]:
        """Each door by HTTP: the service, and the routes that belong to it."""
        found: dict[str, tuple[str, list[Route]]] = {}
        for service, document in self.documents.items():
            for path, methods in document["paths"].items():
                door = "v2" if path.startswith("/v2") else service
                if path in OPEN and self.house.owner() and not self.token:
                    continue  # who has no token is answered here
                for method, described in methods.items():
                    found.setdefault(door, (service, []))[1].append(Route(method.upper(), path, described))
        mlflow = [Route(r["method"], r["path"], {}) for r in self.matrix["routes"] if "/mlflow" in r["path"]]
        found["mlflow"] = ("registry", mlflow)
        return found

    def http(self, door: str, seed: str, count: int) -> Found:
        """Fuzzed requests to a door."""
        service, routes = self.doors()[door]
        found, rng = Found(door), Random(f"{seed}{door}")
        connection = Connection(self.house.url(service), self.house.trust())
        for request in islice(Requests(routes, self.documents[service], rng), count):
            status, body = connection.ask(request.wire(connection.host, self.token), request.method)
            found.add(status, body, self.secrets, _short(request))
            if status == "none":
                found.unanswered.append(_short(request))
        connection.close()
        return found

    def raw(self, service: str, seed: str, count: int) -> Found:
        """Bytes that are nearly a request."""
        found, rng = Found(f"{service}, raw"), Random(f"{seed}{service}raw")
        connection = Connection(self.house.url(service), self.house.trust())
        paths = ["/v1/loops/guarded", "/v1/loops/guarded/predict", "/v1/loops/guarded/events"]
        paths.append("/" if self.token else "/openapi.json")  # the console's page alone answers without a token
        for _ in range(count):
            wire = malformed(rng, connection.host, self.token, paths)
            answer = connection.ask_once(wire)
            status = answer[9:12].decode(errors="replace") if answer.startswith(b"HTTP/") else "none"
            found.add(status, answer, self.secrets, repr(wire[:120]))
        return found

    def grpc(self, seed: str, count: int) -> Found:
        """Messages by gRPC, and bytes that are none."""
        found, rng = Found("grpc"), Random(f"{seed}grpc")
        methods = [row["path"] for row in self.matrix["routes"] if row["method"] == "gRPC"]
        methods += [path for path in self.matrix["open"] if path.startswith("/grpc.") and self.token]
        address = self.house.services()["serving"]["grpc"]
        with grpc.insecure_channel(address) as channel:
            for method, body in islice(messages(rng, methods), count):
                code, said = send(channel, method, body, self.token)
                found.add(code, said.encode(), self.secrets, f"{method} {body[:80]!r}")
        connection = Connection(f"http://{address}", None)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        for _ in range(count // 20):
            connection.ask_once(preface * rng.randint(0, 1) + rng.randbytes(rng.randint(1, 200)))
            found.statuses["bytes"] += 1
        return found

    def run(self, seed: str, count: int) -> Iterator[Found]:
        """Every door, some at a time."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            waiting = [pool.submit(self.http, door, seed, count) for door in self.doors()]
            waiting += [pool.submit(self.raw, service, seed, count // 4) for service in SERVICES]
            waiting.append(pool.submit(self.grpc, seed, count))
            for done in waiting:
                yield done.result()


def _short(request: Request) -> str:
    return f"{request.method} {request.target[:160]} {request.headers} {request.body[:200]!r}"[:700]


def resident(house: House) -> dict[str, int]:
    """Bytes of memory that each service has now, by name and pid: another pid is another process.

    Without RocksDB's write buffers, which have what the events of valid requests have stored until they reach 16 MB.
    """
    pids = house.pids()
    status = {name: Path(f"/proc/{pid}/status").read_text() for name, pid in pids.items()}
    held = {name: int(text.split("VmRSS:")[1].split()[0]) * 1024 for name, text in status.items()}
    told = house.tell("GET", "feature", "/metrics").body
    held["feature"] -= int(sum(map(float, re.findall(r"^everloop_state_write_buffer_bytes.* (\S+)$", told, re.M))))
    return {f"{name} {pids[name]}": size for name, size in held.items()}


def fuzz(house: House, count: int, seeds: int) -> None:
    """Thousands of requests to every door; with access control, also without a token."""
    if not all(house.apply(loop, SPEC) for loop in ("guarded", "fuzz-a")):
        return
    house.play("guarded", "x", 0, 200)
    ways = {"": house.owner()} | ({", without a token": ""} if house.owner() else {})
    for what, token in ways.items():
        tried = Fuzz(house, token)
        list(tried.run("warm", min(WARM, count)))
        settled = _settled(house)
        founds: list[Found] = []
        for seed in range(seeds):
            begin = time.monotonic()
            founds += tried.run(str(seed), count if token or not house.owner() else count // 4)
            so_far = f"{sum(f.requests for f in founds):,} requests so far"
            say(f"     seed {seed}{what}: {so_far}, {time.monotonic() - begin:.0f} s, {_memory(house, settled)}")
            for broken in [one for found in founds for one in found.broken][:20]:
                say(f"     {broken}")
        _judge(house, what, founds, settled, token)


def _settled(house: House) -> dict[str, int]:
    until(lambda: all(house.tell("GET", s, "/readyz").status == 200 for s in SERVICES), 30)
    time.sleep(3)
    return resident(house)


def _memory(house: House, before: Mapping[str, int]) -> str:
    now = resident(house)
    return ", ".join(f"{name} {(now[name] - before.get(name, 0)) / 1e6:+.1f} MB" for name in now)


def _judge(house: House, what: str, founds: list[Found], before: dict[str, int], token: str) -> None:
    after = _settled(house)
    for door in dict.fromkeys(f.door for f in founds):
        of = [f for f in founds if f.door == door]
        statuses = sum((f.statuses for f in of), Counter[str]())
        wrong = [one for f in of for one in (*f.broken, *f.told, *f.unanswered)]
        promised = "no 5xx but 503, every one answered, no token told"
        check(not wrong, f"{door}{what}: {statuses.total():,} fuzzed requests, {promised}", wrong)
        say(f"     {dict(statuses.most_common(12))}")
        if house.owner() and not token:
            let_in = [status for status in statuses if status.startswith("2") or status == "OK"]
            check(not let_in, f"{door}{what}: nothing is answered", statuses)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    check(after.keys() == before.keys(), f"no process was started again{what}", (before, after))
    most = ", ".join(f"{name.split()[0]} {size / 1e6:+.1f} MB" for name, size in grown.items())
    check(max(grown.values()) < MOST_GROWTH_BYTES, f"growth under 20 MB{what}: {most}", grown)
    predicted = house.predicted_by("guarded", "x")
    check("@" in predicted or predicted == "0", f"the loop predicts as before{what}", predicted)
