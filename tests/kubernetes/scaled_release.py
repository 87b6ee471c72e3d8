"""A release of the chart whose services KEDA scales: what its ScaledObjects, HPAs and metrics say."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.chart import ARTIFACTS, CHART, TRIAL
from tests.kubernetes.cluster import Cluster, wait_until

NAME = "everloop"
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
WITHIN_S = 180.0


@dataclass(frozen=True)
class ScaledRelease:
    """The release `everloop` in a namespace of its own, on nodes on which nothing runs."""

    cluster: Cluster
    namespace: str

    def install(self, *values: str) -> None:
        """Install it, or change what is there: the values of a trial, and these."""
        chosen = [f"--set={text}" for text in values]
        command = ("upgrade", "--install", NAME, str(CHART), f"--values={TRIAL}", "--timeout=5m")
        self.cluster.helm(*command, f"--namespace={self.namespace}", *chosen)

    def condition(self, service: str, kind: str) -> tuple[str, str]:
        """Status and message of a condition of the service's ScaledObject."""
        found = self.get(f"scaledobject/{NAME}-{service}").get("status", {}).get("conditions", [])
        return next(((each["status"], each.get("message", "")) for each in found if each["type"] == kind), ("", ""))

    def wait_for(self, service: str, kind: str, status: str) -> str:
        """Return the message once a condition has this status."""
        wait_until(lambda: self.condition(service, kind)[0] == status, f"{kind} of {service} is {status}", WITHIN_S)
        return self.condition(service, kind)[1]

    def hpa(self, service: str) -> dict[str, Any]:
        """The HPA that KEDA made for a service."""
        return self.get(f"hpa/keda-hpa-{NAME}-{service}")

    def hpas(self) -> set[str]:
        """The names of those that there are."""
        return {each["metadata"]["name"] for each in self.get("hpa")["items"]}

    def pods(self, service: str) -> tuple[int, int]:
        """How many pods a service shall have, and how many are ready."""
        found = self.get(f"statefulset/{NAME}-{service}")
        return found["spec"]["replicas"], found["status"].get("readyReplicas", 0)

    def lag(self, service: str) -> list[int]:
        """What KEDA tells the HPA about each topic of a service, by the API server, in the order of its triggers."""
        names = self.get(f"scaledobject/{NAME}-{service}")["status"]["externalMetricNames"]
        selected = f"labelSelector=scaledobject.keda.sh%2Fname%3D{NAME}-{service}"
        paths = [f"{EXTERNAL}/namespaces/{self.namespace}/{name}?{selected}" for name in names]
        answers = [json.loads(self.cluster.kubectl("get", f"--raw={path}"))["items"] for path in paths]
        return [int(item["value"]) for [item] in answers]

    def events(self, service: str) -> dict[str, str]:
        """A message for each reason of the events about what has the service's name."""
        about = f"--field-selector=involvedObject.name={NAME}-{service}"
        return {each["reason"]: each["message"] for each in self.get("events", about)["items"]}

    def get(self, *what: str) -> dict[str, Any]:
        """What `kubectl get WHAT` answers in the namespace."""
        return self.cluster.get(*what, f"--namespace={self.namespace}")

    def kubectl(self, *args: str, given: str | None = None) -> str:
        """What `kubectl ARGS` prints in the namespace."""
        return self.cluster.kubectl(*args, f"--namespace={self.namespace}", given=given)


@contextmanager
def scaled_release(cluster: Cluster) -> Iterator[ScaledRelease]:
    """A namespace for the block, with the volume of artifacts; the release in it is removed at the end."""
    release = ScaledRelease(cluster, f"keda-{secrets.token_hex(4)}")
    cluster.kubectl("create", "namespace", release.namespace)
    try:
        release.kubectl("apply", "--filename=-", given=ARTIFACTS)
        yield release
        cluster.helm("uninstall", NAME, f"--namespace={release.namespace}", "--wait", "--timeout=2m")
    finally:
        cluster.kubectl("delete", "namespace", release.namespace, "--wait=false")


def followed(spec: dict[str, Any]) -> dict[str, int]:
    """The topics that an HPA follows, as KEDA writes them in names of metrics, and the lag that one pod may have."""
    metrics = [each["external"] for each in spec["metrics"] if "external" in each]
    return {m["metric"]["name"].partition("-kafka-")[2]: int(m["target"]["averageValue"]) for m in metrics}


def lag_of_a_pod(hpa: dict[str, Any]) -> int:
    """The records behind for each pod, as the HPA has counted them last."""
    found = hpa.get("status", {}).get("currentMetrics") or []
    return next((int(each["external"]["current"]["averageValue"]) for each in found if "external" in each), 0)


def scaling_is(hpa: dict[str, Any]) -> str:
    """Whether an HPA knows a metric: the status of its condition ScalingActive."""
    return next(str(each["status"]) for each in hpa["status"]["conditions"] if each["type"] == "ScalingActive")
