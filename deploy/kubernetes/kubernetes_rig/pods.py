"""A node on which pods run: kubelet and kube-proxy with containerd, and CoreDNS for the names of services."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

from kubernetes_rig import containers, leftovers
from kubernetes_rig.binaries import binary, cache
from kubernetes_rig.containers import GATEWAY, POD_ADDRESSES
from kubernetes_rig.errors import RigError
from kubernetes_rig.kwok import ready_nodes
from kubernetes_rig.ports import HOST, free_ports
from kubernetes_rig.processes import Processes

NAMES = ("containerd", "coredns", "kubelet", "kube-proxy")
NODE = "localhost"  # its name is where the API server asks kubelet for logs
COREFILE = """.:53 {{
  bind {gateway}
  ready {host}:{port}
  errors
  kubernetes cluster.local {{
    kubeconfig {kubeconfig} rig
    ttl 1
  }}
}}
"""


def check() -> None:
    """Raise RigError where this machine cannot run pods."""
    if os.geteuid() != 0:
        raise RigError("Pods need root: kubelet mounts volumes, and containerd makes namespaces.")
    for program in ("ip", "iptables", "mount"):
        if shutil.which(program) is None:
            raise RigError(f"Pods need {program}, which is not here.")
    if Path(f"/sys/class/net/{containers.BRIDGE}").exists():
        raise RigError(
            f"There is a network {containers.BRIDGE}: another rig runs pods, or one did not end with `down`."
        )


def start_pods(folder: Path, processes: Processes, kubeconfig: Path) -> None:
    """Start them, and return once the node is Ready."""
    leftovers.note_machine(folder)
    containers.start_containers(folder, processes)
    _start_names(folder, processes, kubeconfig)
    node = [f"--kubeconfig={kubeconfig}", f"--hostname-override={NODE}"]
    own, tools = folder / "kubelet", {"PATH": f"{cache()}/bin{os.pathsep}{os.environ['PATH']}"}
    own.mkdir(exist_ok=True)
    config = _written(folder / "kubelet.json", _kubelet(folder))
    places = [f"--root-dir={own}", f"--cert-dir={own}/pki", f"--config={config}"]
    processes.start("kubelet", [binary("kubelet"), *node, *places], tools)
    processes.wait("kubelet", lambda: ready_nodes(kubeconfig) == 1)
    config = _written(folder / "kube-proxy.json", _proxy(kubeconfig))
    processes.start("kube-proxy", [binary("kube-proxy"), f"--config={config}"])


def end_pods(folder: Path, processes: Processes) -> None:
    """End kubelet before the containers, so that it does not start them again; then what they leave on the machine."""
    processes.stop("kube-proxy", "kubelet")
    containers.end_containers(folder)
    processes.stop("containerd")
    containers.remove_network(folder)
    cleaning = [binary("kube-proxy"), "--cleanup"]
    subprocess.run(cleaning, check=False, capture_output=True, timeout=60)
    for kind in Path("/sys/fs/cgroup").glob("*/kubepods"):
        _remove_groups(kind)
    leftovers.remove_leftovers(folder, containers.BRIDGE)


def _start_names(folder: Path, processes: Processes, kubeconfig: Path) -> None:
    [port] = free_ports(1)
    file = folder / "Corefile"
    file.write_text(COREFILE.format(gateway=GATEWAY, host=HOST, port=port, kubeconfig=kubeconfig))
    processes.start("coredns", [binary("coredns"), "-conf", str(file)])


def _kubelet(folder: Path) -> dict[str, object]:
    port, health = free_ports(2)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": HOST,
        "port": port,
        "healthzPort": health,
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": f"{folder}/kubelet-client.crt"}},
        "containerRuntimeEndpoint": f"unix://{containers.socket(folder)}",
        "clusterDNS": [GATEWAY],
        "clusterDomain": "cluster.local",
        "podLogsDir": f"{folder}/pod-logs",
        "volumePluginDir": f"{folder}/volume-plugins",
        "resolvConf": "",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,  # a lower one needs a capability that containers of CI do not have
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,  # kube-proxy has its own, and most of them would stay
        "evictionHard": {"memory.available": "200Mi"},  # a disk that is fuller than most is no reason here
        "imageGCHighThresholdPercent": 100,  # images come from no registry: one that is deleted is lost
        "imageGCLowThresholdPercent": 99,
    }


def _proxy(kubeconfig: Path) -> dict[str, object]:
    health, metrics = free_ports(2)
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "hostnameOverride": NODE,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "mode": "iptables",
        "clusterCIDR": POD_ADDRESSES,
        "bindAddress": HOST,
        "healthzBindAddress": f"{HOST}:{health}",
        "metricsBindAddress": f"{HOST}:{metrics}",
        # An answer of a pod on the same bridge has to come back through the machine that translated its address.
        "iptables": {"masqueradeAll": True, "localhostNodePorts": False},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _written(file: Path, config: dict[str, object]) -> Path:
    file.write_text(json.dumps(config, indent=1))
    return file


def _remove_groups(folder: Path) -> None:
    for inner in sorted((each for each in folder.rglob("*") if each.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            inner.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()
