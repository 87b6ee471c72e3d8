"""Fake services: an HTTP endpoint each, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from everloop.local import processes
from everloop.local.plan import InstallationPlan
from everloop.local.ports import free_port
from everloop_schemas.topology import SERVICES

ENDPOINT = """
import http.server, json, os, subprocess, sys
name = sys.argv[1]
class Endpoint(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        names = ("EVERLOOP_DATA", "EVERLOOP_KAFKA_BOOTSTRAP", "EVERLOOP_HOST")
        self.wfile.write(json.dumps({**{n: os.environ[n] for n in names}, "worker": worker.pid}).encode())
    def log_message(self, *args): pass
worker = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
address = os.environ["EVERLOOP_HOST"], int(os.environ[f"EVERLOOP_{name.upper()}_PORT"])
http.server.HTTPServer(address, Endpoint).serve_forever()
"""


def _plan(folder: Path, services: Sequence[str]) -> InstallationPlan:
    """An installation whose services only answer HTTP; its broker is never used."""
    ports: dict[str, int] = {}
    for service in services:
        ports[service] = free_port(set(ports.values()))
    commands = {service: (sys.executable, "-S", "-c", ENDPOINT, service) for service in services}
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    return InstallationPlan(str(folder), ports, commands, kafka="127.0.0.1:9")


@pytest.fixture
def fake_plan(home: Path) -> Callable[..., InstallationPlan]:
    """Return the maker of plans: all six services, or those that are named."""
    return lambda *services: _plan(home, services or tuple(SERVICES))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "installation"


@pytest.fixture(autouse=True)
def _nothing_left(home: Path) -> Iterator[None]:
    yield
    left = processes.of_installation(home)
    processes.end_all(left, 1)
    assert not left
