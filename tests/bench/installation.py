"""A whole installation on the bench's broker: six services as processes, fed by HTTP as applications feed it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.bench.subject import Tree

from everloop_schemas.topology import SERVICES

BUSY = (429, 503)


@dataclass
class Installation:
    """Its folder, topic prefix, endpoints and processes."""

    folder: Path
    bootstrap: str
    prefix: str
    client: httpx.AsyncClient
    environment: dict[str, str] = field(default_factory=dict)
    python: str = sys.executable

    async def everloop(self, *args: str) -> str:
        """Run the command; its output. Raises RuntimeError when it fails."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("EVERLOOP_")}
        own = {"EVERLOOP_DATA": str(self.folder), "EVERLOOP_TOPIC_PREFIX": self.prefix}
        process = await asyncio.create_subprocess_exec(
            self.python,
            "-m",
            "everloop",
            *args,
            env=clean | own | self.environment,
            cwd=self.folder,  # a checkout here would be imported before that of another interpreter
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:  # an `up` that goes on would outlive the `down` that follows
            process.terminate()
            await process.wait()
            raise
        if process.returncode:
            raise RuntimeError(f"everloop {' '.join(args)}: {output.decode()[-3000:]}")
        return output.decode()

    async def apply(self, spec: dict[str, Any]) -> None:
        """Apply a loop, and wait until every service knows it."""
        file = self.folder / f"{spec['loop']}.yaml"
        file.write_text(json.dumps(spec))  # JSON is YAML
        await self.everloop("apply", "-f", str(file))

    def listed(self) -> dict[str, Any]:
        """The content of services.json."""
        found: dict[str, Any] = json.loads((self.folder / "services.json").read_text())
        return found

    def url(self, service: str) -> str:
        """The URL of a service."""
        return str(self.listed()[service]["url"])

    async def post(self, loop: str, endpoint: str, entries: list[dict[str, Any]], within: int = 200) -> None:
        """Send to ingest, again where it is busy; raises RuntimeError for another answer than 202."""
        for _ in range(within):
            answer = await self.client.post(f"{self._ingest}/v1/loops/{loop}/{endpoint}", json=entries)
            if answer.status_code == 202:
                return
            if answer.status_code not in BUSY:
                break
            await asyncio.sleep(0.1)
        raise RuntimeError(f"{endpoint}: {answer.status_code} {answer.text[:500]}")

    async def status(self, loop: str) -> dict[str, Any]:
        """Monitoring's status of a loop."""
        answer = await self.client.get(f"{self.url('monitoring')}/v1/loops/{loop}/status")
        return dict(answer.json()) if answer.status_code == 200 else {}

    def cpu_s(self) -> dict[str, float]:
        """User and system seconds of each service, children included."""
        return {service: tree.cpu_s() for service, tree in self._trees.items()}

    def resident_mb(self) -> dict[str, float]:
        """Resident memory of each service in MB, children included."""
        return {service: tree.resident_mb() for service, tree in self._trees.items()}

    def __post_init__(self) -> None:
        self._ingest, self._trees = "", dict[str, Tree]()

    async def up(self) -> None:
        """Start it; returns when all are ready."""
        await self.everloop("up", "--kafka", self.bootstrap, "--ports", "auto", "--detach")
        self._ingest = self.url("ingest")
        self._trees = {service: Tree(self.listed()[service]["pid"]) for service in SERVICES}


@asynccontextmanager
async def installation(folder: Path, bootstrap: str, prefix: str, **settings: object) -> AsyncIterator[Installation]:
    """An installation for the length of the block, with these settings (`serving_recent_predictions=...`)."""
    async with installation_of(sys.executable, folder, bootstrap, prefix, **settings) as started:
        yield started


@asynccontextmanager
async def installation_of(
    python: str, folder: Path, bootstrap: str, prefix: str, **settings: object
) -> AsyncIterator[Installation]:
    """An installation of the code that the interpreter `python` has installed."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {f"EVERLOOP_{name.upper()}": str(value) for name, value in settings.items()}
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        started = Installation(folder, bootstrap, prefix, client, environment, python)
        try:
            await started.up()
            yield started
        finally:
            await started.everloop("down")


def entries(rows: Iterable[tuple[int, dict[str, Any], bool]], loop: str, entities: int) -> list[dict[str, Any]]:
    """Observations as an application posts them."""
    return [{"id": f"{loop}-{i}", "entity": f"e{i % entities}", "data": fields} for i, fields, _ in rows]


def labels(rows: Iterable[tuple[int, dict[str, Any], bool]], loop: str) -> list[dict[str, Any]]:
    """Their labels."""
    return [{"id": f"{loop}-{i}", "label": label} for i, _, label in rows]
