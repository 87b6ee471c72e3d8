"""A rig with pods goes away whole: nothing of it stays on the machine outside its folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.integrations.environments import environment
from tests.kubernetes.cluster import started_cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

PAUSE = "everloop.io/rig/pause:1"
"""The image of sandboxes, which every node of a rig has."""
PLACES = ("/var/lib", "/var/lib/cni", "/var/lib/kubelet", "/var/log", "/var/log/containers", "/usr/libexec", "/etc")


def test_down_of_a_rig_with_pods_leaves_packet_rules_networks_and_folders_as_they_were(tmp_path: Path) -> None:
    made = environment("kubernetes_pods")
    before = machine()

    with started_cluster(made, tmp_path / "rig", "--pods") as cluster:
        cluster.kubectl("run", "idle", f"--image={PAUSE}", "--image-pull-policy=Never")
        cluster.kubectl("wait", "pod/idle", "--for=condition=Ready", "--timeout=120s")
        during = machine()

    assert machine() == before
    assert {name for name in before if during[name] != before[name]} >= {"iptables", "ip6tables", "ip", "/var/lib"}


def machine() -> dict[str, list[str]]:
    """What a rig could leave: packet rules of both protocols, network devices, and entries of folders."""
    found = {place: sorted(each.name for each in Path(place).glob("*")) for place in PLACES}
    for program in ("iptables", "ip6tables"):
        tables = [said for table in ("filter", "nat", "mangle") for said in lines(program, "-t", table, "-S")]
        found[program] = sorted(tables)
    links = [line.split(": ")[1] for line in lines("ip", "-oneline", "link")]
    found["ip"] = [each for each in links if not each.startswith("veth")]  # Docker's come and go with its containers
    return found


def lines(*command: str) -> list[str]:
    """What it prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
