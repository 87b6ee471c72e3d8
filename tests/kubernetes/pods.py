"""Everloop in real pods, installed by the chart, driven as an operator and an application do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml
from tests.chaos.findings import Findings
from tests.chaos.journal import Journal
from tests.chaos.load import Load, loaded
from tests.chaos.loops import SPECS
from tests.chaos.run import check_log, wait_for_rest
from tests.chaos.topics import read
from tests.kubernetes.chart import CHART
from tests.kubernetes.cluster import Cluster, wait_until

from everloop_schemas.topology import SERVICES

VALUES = Path(__file__).with_name("values.yaml")
MOUNTED = "file:///artifacts"
"""Where the pods have the volume of artifacts."""
RELEASE, NAMESPACE = "everloop", "everloop"
WITHIN_S = "900s"


MORE = {"serving": 3, "feature": 2, "training": 2, "monitoring": 2, "ingest": 3}
FEWER = {"serving": 2, "feature": 1, "training": 1, "monitoring": 1, "ingest": 2}
"""Pods of each service, as values.yaml allows."""
OF_ONE_REPLICA = "REST features equal a replay"
"""What serving promises where all requests about an entity go to one pod: replicas know no requests of each other that
feature has not published yet (its card, known limitations). These applications send each request to any of them, and
repeat no id."""
CHECKED = {"duplicates of a record are equal", "every id on the log was sent", "monitoring's totals equal a recount"}


def lost(findings: Findings) -> list[tuple[str, str]]:
    """The findings about what was acknowledged, decided, learned and counted."""
    return [(claim, what) for claim, what in findings.found if claim != OF_ONE_REPLICA]


class Release(NamedTuple):
    """An earlier release: its commit, which is the tag of its images, and what values it needs."""

    commit: str
    options: tuple[str, ...]


OLD = ("--set", "kafka.topics.enabled=false", "--set", "services.feature.autoscaling.enabled=false")
LAST_RELEASE = Release("4d50c66a", OLD)
"""It has no program that makes all topics: its services made their own. Its serving knows one replica of feature."""


@dataclass
class Pods:
    """A release of the chart in its namespace; what tests.chaos asks of an installation."""

    cluster: Cluster
    folder: Path
    bootstrap: str = "10.96.0.92:9092"

    def install(self, tag: str, *options: str) -> None:
        """Install it, or upgrade what is there, and wait until every pod is ready; the pods' logs tell why not."""
        values = ["--values", str(VALUES), "--set", f"image.tag={tag}", *options]
        command = ["upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE]
        try:
            self.cluster.helm(*command, *values, "--wait", "--timeout", WITHIN_S)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.troubles()}") from None

    def clear(self) -> None:
        """Remove the release, its volumes, and what Kafka and PostgreSQL keep."""
        if RELEASE in self.helm("list", "--short", "--all"):
            self.helm("uninstall", RELEASE, "--wait")
        self.kubectl("delete", "pvc", "--selector", f"app.kubernetes.io/instance={RELEASE}")
        for name in ("kafka", "postgres"):
            self.kubectl("rollout", "restart", f"deployment/{name}")
            self.kubectl("rollout", "status", f"deployment/{name}", "--timeout=300s")

    def apply_all(self) -> None:
        """Apply the loops of the chaos run."""
        for spec in SPECS.values():
            self.apply(spec)

    def url(self, service: str) -> str:
        """Where this machine reaches a service: at the address of its Service, which kube-proxy balances."""
        address = self.kubectl("get", "service", f"{RELEASE}-{service}", "--output", "jsonpath={.spec.clusterIP}")
        return f"http://{address}:8000"

    def urls(self) -> dict[str, str]:
        """Those of all services."""
        return {name: self.url(name) for name in SERVICES}

    def apply(self, spec: str) -> None:
        """Apply a loop, and wait until every pod knows it."""
        wanted = yaml.safe_load(spec)
        known = f"/v1/loops/{wanted['loop']}"
        answer = httpx.put(f"{self.url('registry')}{known}", json=wanted, timeout=30, trust_env=False)
        assert answer.status_code in (200, 201), answer.text
        for name in ("ingest", "serving", "monitoring"):
            wait_until(lambda of=name: self._all_know(of, known), f"{name} knows the loop")  # type: ignore[misc]

    async def scale_all(self, wanted: dict[str, int]) -> None:
        """Give each service as many pods, at the same time; returns when they are ready."""
        await asyncio.gather(*[asyncio.to_thread(self.scale, name, count) for name, count in wanted.items()])

    def scale(self, service: str, replicas: int) -> None:
        """As many pods as KEDA or an HPA would ask for, by the same subresource; returns when they are ready."""
        workload = f"{'deployment' if service == 'ingest' else 'statefulset'}/{RELEASE}-{service}"
        self.kubectl("scale", workload, f"--replicas={replicas}")
        self.kubectl("rollout", "status", workload, f"--timeout={WITHIN_S}")
        wait_until(lambda: self._count(service) == replicas, f"{service} has {replicas} pods", 300)

    async def wait_for_outcomes(self, more: int, within_s: float = 600) -> None:
        """Wait until monitoring has counted so many more of each loop of the chaos run."""
        wanted = {loop: self._outcomes(loop) + more for loop in SPECS}

        def reached() -> bool:
            return all(self._outcomes(loop) >= count for loop, count in wanted.items())

        await asyncio.to_thread(wait_until, reached, f"{more} more outcomes of each loop", within_s)

    async def check(self, journal: Journal) -> Findings:
        """Every claim of the chaos run about the topics, once all is handled."""
        findings = Findings()
        await wait_for_rest(self, journal, findings)
        log = await read(self.bootstrap)
        volume = await asyncio.to_thread(self._artifacts)
        for record in (record for records in log.records.values() for record in records):
            data = record.event.get("data", {})
            if str(data.get("uri", "")).startswith(MOUNTED):
                data["uri"] = data["uri"].replace(MOUNTED, volume.as_uri(), 1)
        await check_log(self, log, journal, findings)
        return findings

    @asynccontextmanager
    async def loaded(self, journal: Journal) -> AsyncIterator[Load]:
        """Applications send for the length of the block, and until everything they sent is acknowledged."""
        async with loaded(self.urls().get, journal, repeats=0) as load:
            yield load

    def _all_know(self, service: str, path: str) -> bool:
        selector = f"app.kubernetes.io/component={service}"
        found = self.cluster.get("pods", "--namespace", NAMESPACE, "--selector", selector)["items"]
        return all(_status(f"http://{each['status'].get('podIP')}:8000{path}") == 200 for each in found)

    def _artifacts(self) -> Path:
        """Where this machine has the volume with the artifacts."""
        claim = self.cluster.get("pvc", "artifacts", "--namespace", NAMESPACE)
        return Path(self.cluster.get("pv", claim["spec"]["volumeName"])["spec"]["hostPath"]["path"])

    def _count(self, service: str) -> int:
        selector = f"app.kubernetes.io/component={service}"
        return len(self.kubectl("get", "pods", "--selector", selector, "--output", "name").split())

    def _outcomes(self, loop: str) -> int:
        return int(self.status(loop).get("outcomes", 0))

    def ready(self) -> bool:
        """Whether as many pods as wanted are ready."""
        found = self.cluster.get("deployments,statefulsets", "--namespace", NAMESPACE)["items"]
        return all(each["status"].get("readyReplicas", 0) == each["spec"]["replicas"] for each in found)

    def status(self, loop: str) -> dict[str, Any]:
        """Monitoring's status of a loop; empty while it is away."""
        try:
            answer = httpx.get(f"{self.url('monitoring')}/v1/loops/{loop}/status", timeout=10, trust_env=False)
        except httpx.TransportError:
            return {}
        return dict(answer.json()) if answer.status_code == 200 else {}

    def kubectl(self, *args: str) -> str:
        """What `kubectl ARGS` prints in the namespace."""
        return self.cluster.kubectl("--namespace", NAMESPACE, *args)

    def helm(self, *args: str) -> str:
        """What `helm ARGS` prints, for the namespace."""
        return self.cluster.helm(*args, "--namespace", NAMESPACE)

    def images(self) -> set[str]:
        """Those that the pods of services run."""
        found = json.loads(self.kubectl("get", "pods", "-l", f"app.kubernetes.io/instance={RELEASE}", "-o", "json"))
        return {each["image"] for pod in found["items"] for each in pod["status"].get("containerStatuses", [])}

    def troubles(self) -> str:
        """Events, and the end of the log of every pod that is not ready."""
        said = [self.kubectl("get", "pods"), self.kubectl("get", "events", "--sort-by=.lastTimestamp")[-3000:]]
        for pod in self.cluster.get("pods", "--namespace", NAMESPACE)["items"]:
            if not all(each.get("ready") for each in pod["status"].get("containerStatuses", [])):
                name = pod["metadata"]["name"]
                said.append(f"{name}:\n{self.kubectl('logs', name, '--tail=15', '--ignore-errors')}")
        return "\n".join(said)


def _status(url: str) -> int:
    try:
        return httpx.get(url, timeout=10, trust_env=False).status_code
    except httpx.TransportError:
        return 0
