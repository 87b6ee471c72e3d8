"""The real Prometheus and the real Alertmanager, as the packages of an operating system install them."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from everloop.local.ports import free_port

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
T = TypeVar("T")


def program(*names: str) -> str:
    """The first of these programs that is installed; skips the test where there is none."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"{names[0]} is not installed (Debian: apt-get install prometheus prometheus-alertmanager)")
    return found


def promtool(*arguments: str, text: bytes = b"", cwd: Path = ROOT) -> str:
    """What promtool says; fails where it finds a mistake."""
    command = [program("promtool"), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, timeout=60, cwd=cwd, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def until(what: Callable[[], T], within_s: float = 60.0) -> T:
    """Ask until the answer is true; the last answer, whatever it is, at the deadline."""
    end = time.monotonic() + within_s
    while not (got := what()) and time.monotonic() < end:
        time.sleep(0.2)
    return got


def get(url: str) -> Any:
    """The JSON at an address; None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)
    except OSError:
        return None


@contextmanager
def running(url: str, *command: str, folder: Path, health: str = "/-/healthy") -> Iterator[str]:
    """A server that is ended with the block, once it is healthy."""
    said = folder / f"{Path(command[0]).name}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            assert until(lambda: _is_healthy(url + health)), said.read_text()[-2000:]
            yield url
        finally:
            process.terminate()
            process.wait(20)


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    """An Alertmanager with the configuration of docker-compose.yml."""
    found = program("prometheus-alertmanager", "alertmanager")
    url = f"http://127.0.0.1:{free_port()}"
    options = [f"--config.file={DEPLOY}/alertmanager/alertmanager.yml", f"--storage.path={folder}/alertmanager"]
    listen = [f"--web.listen-address={url.removeprefix('http://')}", "--cluster.listen-address="]
    with running(url, found, *options, *listen, folder=folder) as started:
        yield started


@contextmanager
def prometheus(folder: Path, services: Mapping[str, str], alertmanager_url: str) -> Iterator[str]:
    """A Prometheus with the configuration of docker-compose.yml, that scrapes these addresses every second."""
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus/rules.yml")]
    address = alertmanager_url.removeprefix("http://")
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [address]}]}]
    config["scrape_configs"] = [
        {"job_name": name, "static_configs": [{"targets": [url.removeprefix("http://")]}]}
        for name, url in services.items()
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{free_port()}"
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/prometheus"]
    listen = f"--web.listen-address={url.removeprefix('http://')}"
    with running(url, program("prometheus"), *options, listen, folder=folder) as started:
        yield started


def query(prometheus_url: str, expression: str) -> list[Any]:
    """The series that an expression gives now; fails where Prometheus refuses it."""
    address = f"{prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            found: list[Any] = json.load(answer)["data"]["result"]
            return found
    except urllib.error.HTTPError as e:
        raise AssertionError(f"{expression}: {e.read().decode()[:500]}") from e
