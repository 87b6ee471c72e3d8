"""The chart's renderings by Helm, in the sets of values that tests share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from tests.integrations.environments import Environment

CHART = Path(__file__).parents[2] / "deploy/helm/everloop"
EXAMPLES = CHART.parent / "examples"
VALUES = Path(__file__).parent / "values"
TRIAL, COMPLETE = VALUES / "trial.yaml", VALUES / "complete.yaml"
STRIMZI, CLOUDNATIVEPG = CHART / "values-strimzi.yaml", CHART / "values-cloudnativepg.yaml"
SECURED = ["access.keysSecret.name=keys", "access.servingTokenSecret.name=token"]
STORED = [*SECURED, "artifacts.url=s3://models/everloop"]
SETS = {
    "trial": ([TRIAL], []),
    "complete": ([COMPLETE], []),
    "operators": ([STRIMZI, CLOUDNATIVEPG], [*STORED, "personal.enabled=true", "personal.masterKeySecret.name=key"]),
    "scaled by lag with Strimzi": (
        [STRIMZI, CLOUDNATIVEPG],
        [*STORED, *(f"services.{name}.autoscaling.enabled=true" for name in ("feature", "training", "serving"))],
    ),
}
KUBE = "1.37.2"
ARTIFACTS = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: everloop-artifacts}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
"""


def template(made: Environment, files: list[Path], sets: list[str]) -> subprocess.CompletedProcess[str]:
    """`helm template` of a release `everloop`."""
    helm = Path(made.python).parent / "helm"
    chosen = [f"--values={file}" for file in files] + [f"--set={text}" for text in sets]
    command = [str(helm), "template", "everloop", str(CHART), f"--kube-version={KUBE}", *chosen]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def rendered(made: Environment, name: str) -> list[dict[str, Any]]:
    """The objects of one of the sets."""
    done = template(made, *SETS[name])
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The names and specs of all pods that these objects are or make."""
    for found in objects:
        if found["kind"] == "Pod":
            yield found["metadata"]["name"], found["spec"]
        elif "template" in found.get("spec", {}):
            yield found["metadata"]["name"], found["spec"]["template"]["spec"]


def named(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """The objects of a kind, by name."""
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def variables(spec: dict[str, Any]) -> dict[str, str]:
    """What the main container of a pod is told by value."""
    return {entry["name"]: entry.get("value", "") for entry in spec["containers"][0]["env"]}
