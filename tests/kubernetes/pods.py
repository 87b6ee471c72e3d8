"""Everloop in real pods, installed by the chart, driven as an operator and an application do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from tests.kubernetes.cluster import ROOT, Cluster, wait_until

from everloop_schemas.topology import SERVICES

CHART = ROOT / "deploy/helm/everloop"
VALUES = Path(__file__).with_name("values.yaml")
RELEASE, NAMESPACE = "everloop", "everloop"
WITHIN_S = "900s"


@dataclass
class Pods:
    """A release of the chart in its namespace; what tests.chaos asks of an installation."""

    cluster: Cluster
    bootstrap: str = "10.96.0.92:9092"

    def install(self, tag: str, *options: str) -> None:
        """Install it, or upgrade what is there, and wait until every pod is ready; the pods' logs tell why not."""
        values = ["--values", str(VALUES), "--set", f"image.tag={tag}", *options]
        command = ["upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE]
        try:
            self.cluster.helm(*command, *values, "--wait", "--timeout", WITHIN_S)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.troubles()}") from None

    def url(self, service: str) -> str:
        """Where this machine reaches a service: at the address of its Service, which kube-proxy balances."""
        address = self.kubectl("get", "service", f"{RELEASE}-{service}", "--output", "jsonpath={.spec.clusterIP}")
        return f"http://{address}:8000"

    def urls(self) -> dict[str, str]:
        """Those of all services."""
        return {name: self.url(name) for name in SERVICES}

    def apply(self, spec: str) -> None:
        """Apply a loop, and wait until the services know it."""
        wanted = yaml.safe_load(spec)
        known = f"/v1/loops/{wanted['loop']}"
        answer = httpx.put(f"{self.url('registry')}{known}", json=wanted, timeout=30, trust_env=False)
        assert answer.status_code in (200, 201), answer.text
        for name in ("ingest", "serving", "monitoring"):
            url = f"{self.url(name)}{known}"
            wait_until(lambda u=url: _status(u) == 200, f"{name} knows the loop")  # type: ignore[misc]

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
