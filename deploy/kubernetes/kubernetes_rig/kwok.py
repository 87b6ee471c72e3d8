"""Nodes on which pods are scheduled and become Ready without any process behind them."""

from __future__ import annotations

import json
from pathlib import Path

from kubernetes_rig.binaries import binary, cache
from kubernetes_rig.control_plane import kubectl
from kubernetes_rig.ports import HOST, free_ports
from kubernetes_rig.processes import Processes

NAMES = ("kwok",)
FAKE = "kwok.x-k8s.io/node"
ZONES = 3


def start_nodes(folder: Path, processes: Processes, kubeconfig: Path, count: int) -> None:
    """Nodes node-0, node-1, ..., one after the other in the zones zone-0, zone-1, zone-2."""
    stages = folder / "stages.yaml"
    stages.write_text("---\n".join(file.read_text() for file in sorted((cache() / "stages").glob("*.yaml"))))
    address = f"{HOST}:{free_ports(1)[0]}"
    managed = ["--manage-all-nodes=false", f"--manage-nodes-with-annotation-selector={FAKE}=fake"]
    processes.start(
        "kwok",
        [
            binary("kwok"),
            f"--kubeconfig={kubeconfig}",
            *managed,
            "--node-lease-duration-seconds=40",  # a node without a lease is taken for dead after 50 s
            f"--config={stages}",
            f"--server-address={address}",
            "--node-port=10247",  # nothing listens there: a pod of such a node has no log
        ],
    )
    nodes = {"apiVersion": "v1", "kind": "List", "items": [_node(number) for number in range(count)]}
    kubectl(kubeconfig, "apply", "-f", "-", given=json.dumps(nodes))
    processes.wait("kwok", lambda: ready_nodes(kubeconfig) >= count)


def ready_nodes(kubeconfig: Path) -> int:
    """How many nodes are Ready."""
    nodes = json.loads(kubectl(kubeconfig, "get", "nodes", "-o", "json"))["items"]
    conditions = [each for node in nodes for each in node["status"].get("conditions", [])]
    return sum((each["type"], each["status"]) == ("Ready", "True") for each in conditions)


def _node(number: int) -> dict[str, object]:
    name = f"node-{number}"
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": f"zone-{number % ZONES}",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {FAKE: "fake"}},
    }
