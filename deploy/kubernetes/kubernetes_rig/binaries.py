"""The programs that the rig runs: found in the user's cache, or built into it once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kubernetes_rig.errors import RigError

VERSION = "1.37.2"
RECIPE = Path(__file__).parents[1] / "binaries" / "build.sh"
SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
CONTROL_PLANE = (*SERVERS, "kubectl", "helm", "stages", "resources")
POD_RUNNERS = (
    "pause",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "runc",
    "cni",
    "kubelet",
    "kube-proxy",
    "coredns",
)
KEDA = ("keda-operator", "keda-metrics-server", "keda-webhooks", "keda", "keda-metrics", "keda-admission")


def cache() -> Path:
    """The folder of this version below EVERLOOP_CACHE, else XDG_CACHE_HOME/everloop, else ~/.cache/everloop."""
    if own := os.environ.get("EVERLOOP_CACHE"):
        return Path(own) / f"kubernetes-{VERSION}"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "everloop" / f"kubernetes-{VERSION}"


def binary(name: str) -> str:
    """Path of a program in the cache."""
    return str(cache() / "bin" / name)


def build(pods: bool, keda: bool) -> None:
    """Make what is missing in the cache; raises RigError with the end of what the recipe said.

    The first time takes half an hour on two cores, and seconds after that.
    """
    names = (*CONTROL_PLANE, *(POD_RUNNERS if pods else ()), *(KEDA if keda else ()))
    done = subprocess.run([RECIPE, cache(), *names], env={**os.environ, "PYTHON": sys.executable}, check=False)
    if done.returncode != 0:
        raise RigError(f"The programs could not be made in {cache()}: see the lines above.")
