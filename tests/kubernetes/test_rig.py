"""The rig is a real Kubernetes: it schedules, keeps what was asked for, and goes away whole."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integrations.environments import Environment
from tests.kubernetes.cluster import RIG, Cluster, rig, started_cluster, wait_until
from tests.processes import runs

DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]},
        },
    },
}
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "spool"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"rig-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.kubernetes
@pytest.mark.timeout(180)
def test_a_deployment_gets_ready_on_nodes_and_a_deleted_pod_is_made_again(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("--namespace", namespace, "create", "-f", "-", given=json.dumps(DEPLOYMENT))
    cluster.kubectl("--namespace", namespace, "rollout", "status", "deployment/web", "--timeout=60s")
    [first, kept] = pods(cluster, namespace)

    cluster.kubectl("--namespace", namespace, "delete", "pod", first)

    wait_until(lambda: len({*pods(cluster, namespace)} - {first, kept}) == 1, "another pod is Ready")
    nodes = {pod["spec"]["nodeName"] for pod in cluster.get("pods", "--namespace", namespace)["items"]}
    assert nodes <= {"node-0", "node-1", "node-2"}


@pytest.mark.kubernetes
@pytest.mark.timeout(180)
def test_a_claim_gets_a_volume_of_its_own_which_goes_with_it(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("--namespace", namespace, "create", "-f", "-", given=json.dumps(CLAIM))
    cluster.kubectl("--namespace", namespace, "wait", "pvc/spool", "--for=jsonpath={.status.phase}=Bound")
    volume = cluster.get("pvc", "spool", "--namespace", namespace)["spec"]["volumeName"]
    folder = Path(cluster.get("pv", volume)["spec"]["hostPath"]["path"])
    was_there = folder.is_dir()

    cluster.kubectl("--namespace", namespace, "delete", "pvc", "spool")

    wait_until(lambda: not folder.exists(), "the folder of the volume is deleted")
    assert was_there
    assert volume not in cluster.kubectl("get", "pv", "--output", "name")


@pytest.mark.kubernetes
@pytest.mark.timeout(300)
def test_up_is_idempotent_and_down_leaves_no_process_and_no_file(made: Environment, tmp_path: Path) -> None:
    folder = tmp_path / "rig"
    with started_cluster(made, folder) as cluster:
        started = (folder / "processes.json").read_text()
        again = rig("up", str(folder))

        assert again == str(cluster.kubeconfig)
        assert (folder / "processes.json").read_text() == started

    left = [each["pid"] for each in json.loads(started).values() if runs(each["pid"])]
    assert (left, folder.exists()) == ([], False)


def test_down_leaves_a_folder_that_is_not_a_rigs(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("the only copy")

    done = subprocess.run(
        [sys.executable, RIG, "down", tmp_path], capture_output=True, text=True, check=False, timeout=30
    )

    assert (done.returncode, done.stderr) == (1, f"rig: {tmp_path} is not the folder of a rig: nothing was done.\n")
    assert (tmp_path / "thesis.txt").exists()


def pods(cluster: Cluster, namespace: str) -> list[str]:
    """The names of those that are Ready and not being deleted."""
    found = cluster.get("pods", "--namespace", namespace)["items"]
    return [pod["metadata"]["name"] for pod in found if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether its condition says so."""
    return any((each["type"], each["status"]) == ("Ready", "True") for each in pod["status"].get("conditions", []))
