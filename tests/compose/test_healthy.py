"""What a container asks itself: whether it is ready, or another path by its argument."""

from __future__ import annotations

import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from tests.compose.stack import ROOT


class Starting(BaseHTTPRequestHandler):
    """A service that lives and is not ready yet."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_a_service_that_starts_is_live_and_not_ready() -> None:
    with HTTPServer(("127.0.0.1", 0), Starting) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        command = [sys.executable, "-IS", str(ROOT / "deploy/healthy.py")]
        own = {"EVERLOOP_PORT": str(server.server_port)}

        ready = subprocess.run(command, env=own, check=False).returncode
        live = subprocess.run([*command, "/livez"], env=own, check=False).returncode
        server.shutdown()

    assert (ready, live) == (1, 0)
