"""BigQuery on this machine: bqemulator in an environment of its own, whose gs:// URIs are files in a folder."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integrations.environments import environment

from everloop.local.ports import free_port

HOST, PROJECT = "127.0.0.1", "lab"
START_WITHIN_S = 60.0


@contextmanager
def bigquery_server(folder: Path) -> Iterator[str]:
    """Start it, and yield its URL; `folder` holds the buckets."""
    own = environment("bqemulator")
    port, main = free_port(), Path(__file__).with_name("emulator_main.py")
    ports = ["--rest-port", str(port), "--grpc-port", str(free_port({port}))]
    with (folder / "bqemulator.log").open("wb") as log:
        process = subprocess.Popen(
            [own.python, str(main), "start", *ports, "--project", PROJECT],
            env={**own.variables, "BQEMU_GCS_LOCAL_ROOT": str(folder)},
            stdout=log,
            stderr=log,
        )
    try:
        _await_answer(process, f"http://{HOST}:{port}/bigquery/v2/projects/{PROJECT}/datasets")
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait()


def _await_answer(process: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + START_WITHIN_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer")
