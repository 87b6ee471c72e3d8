"""A real installation, driven from outside as a user does: by the command, by HTTP and by any Kafka consumer."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer  # type: ignore[import-untyped]

from everloop_schemas.topology import SERVICES

T = TypeVar("T")
FIELDS = ("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
SPEC = """
loop: {loop}
task: binary
schema: {{period: {{type: number}}, nswprice: {{type: number}}, nswdemand: {{type: number}},
  vicprice: {{type: number}}, vicdemand: {{type: number}}, transfer: {{type: number}}}}
features: [{{fields: all}}, {{name: demand_mean_12, mean: nswdemand, over: 12 events}}]
models: [{{estimator: river.linear_model.LogisticRegression, scale: true}}]
retrain: {{on_feedback: 100}}
rollout: {{shadow: 50 predictions, canary: [25%, 50%], step: 50 outcomes}}
"""


def until(what: Callable[[], T], deadline_s: float) -> T:
    """Ask until the answer is true; the last answer, whatever it is, when the deadline has passed."""
    end = time.monotonic() + deadline_s
    while not (got := what()) and time.monotonic() < end:
        time.sleep(0.2)
    return got


@dataclass
class Installation:
    """An installation in its own folder; `settings` are variables that its services read."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def everloop(self, *args: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        command = [sys.executable, "-m", "everloop", *args]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=self.environment, check=False
        )

    @property
    def environment(self) -> dict[str, str]:
        """The environment of programs that use it."""
        return {**os.environ, **self.settings, "EVERLOOP_DATA": str(self.folder), "NO_COLOR": "1"}

    def up(self, *options: str) -> None:
        """Start it, with these options of `everloop up`; returns when it is ready."""
        done = self.everloop("up", "--ports", "auto", "--detach", *options)
        assert done.returncode == 0, done.stderr

    def down(self) -> None:
        """Stop it."""
        done = self.everloop("down")
        assert done.returncode == 0, done.stderr

    def services(self) -> dict[str, Any]:
        """The content of services.json."""
        found: dict[str, Any] = json.loads((self.folder / "services.json").read_text())
        return found

    def addresses(self) -> dict[str, str]:
        """The variables by which a client elsewhere finds the services."""
        found = self.services()
        return {service.variable("url"): found[name]["url"] for name, service in SERVICES.items()}

    def apply(self, loop: str, spec: str = SPEC) -> None:
        """Apply the electricity loop, or another one, under a name."""
        file = self.folder / f"{loop}.yaml"
        file.write_text(spec.format(loop=loop))
        done = self.everloop("apply", "-f", str(file))
        assert done.returncode == 0, done.stderr

    def status(self, loop: str) -> dict[str, Any]:
        """`everloop status LOOP --json`; empty while monitoring is away."""
        done = self.everloop("status", loop, "--json")
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def rows(self, source: Path, start: int, stop: int, turned: bool = False) -> Path:
        """Some rows of the market as a file of their own, with opposite labels where `turned`."""
        file = self.folder / f"rows-{start}-{stop}-{turned}.csv"
        with gzip.open(source, "rt") as src, file.open("w", newline="") as dst:
            writer = csv.DictWriter(dst, [*FIELDS, "class"])
            writer.writeheader()
            for i, row in enumerate(csv.DictReader(src)):
                if start <= i < stop:
                    row["class"] = str(int(row["class"] != "1")) if turned else row["class"]
                    writer.writerow(row)
        return file

    def replay_args(self, loop: str, file: Path, rate: int = 200) -> list[str]:
        """The command line of a replay."""
        labels = ["--label-column", "class", "--label-delay", "10"]
        return ["replay", loop, str(file), *labels, "--rate", str(rate), "--json"]

    def replay(self, loop: str, file: Path) -> dict[str, Any]:
        """Play a file, and return its summary."""
        done = self.everloop(*self.replay_args(loop, file))
        assert done.returncode == 0, done.stderr
        summary: dict[str, Any] = json.loads(done.stdout)
        return summary

    def counted(self, loop: str, n: int, deadline_s: float = 60) -> dict[str, Any]:
        """The status once events, predictions and outcomes are all n, or at the deadline."""
        until(lambda: counts(self.status(loop)) == (n, n, n), deadline_s)
        return self.status(loop)

    def read(self, topic: str, loop: str) -> list[dict[str, Any]]:
        """Every event of a loop on a topic, as an auditor reads it."""
        return [e for e in asyncio.run(_read(self.services()["kafka"]["bootstrap"], topic)) if e["loop"] == loop]

    def write(self, topic: str, loop: str, *wires: bytes) -> None:
        """Write records to a topic, as anybody who reaches the broker can."""
        asyncio.run(_write(self.services()["kafka"]["bootstrap"], topic, loop, wires))


@contextmanager
def installed(folder: Path, *options: str, **settings: str) -> Iterator[Installation]:
    """An installation that runs, with these options of `everloop up`; ended with everything it started."""
    installation = Installation(folder, settings)
    installation.up(*options)
    try:
        yield installation
    finally:
        installation.down()


def counts(status: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Events, predictions and outcomes of a status."""
    return status.get("events"), status.get("predictions"), status.get("outcomes")


async def _write(bootstrap: str, topic: str, loop: str, wires: Sequence[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        written = next(r for r in await _records(bootstrap, topic) if r.key == loop.encode())
        for wire in wires:
            await producer.send_and_wait(topic, wire, key=loop.encode(), partition=written.partition)
    finally:
        await producer.stop()


async def _read(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in await _records(bootstrap, topic)]


async def _records(bootstrap: str, topic: str) -> list[Any]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        found: list[Any] = []
        async with asyncio.timeout(30):
            while not all([await consumer.position(p) >= ends[p] for p in ends]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += records
        return found
    finally:
        await consumer.stop()
