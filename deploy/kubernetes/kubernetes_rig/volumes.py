"""Volumes: a folder of the machine for each claim of the class `rig`, which is the default one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kubernetes_rig.control_plane import ask, kubectl
from kubernetes_rig.processes import Processes

NAMES = ("volumes",)
CLASS = "rig"
PROVISIONER = "everloop.io/rig"
EVERY_S = 1.0


def start_volumes(folder: Path, processes: Processes, kubeconfig: Path) -> None:
    """Make the class, and start the process that gives each claim its folder."""
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": default},
        "provisioner": PROVISIONER,
    }
    kubectl(kubeconfig, "apply", "-f", "-", given=json.dumps(storage_class))
    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "kubernetes_rig.volumes", str(kubeconfig), str(folder / "volumes")]
    processes.start("volumes", command, path)


def provide(kubeconfig: Path, folder: Path) -> None:
    """Make the volume of each claim that waits for one, and delete those whose claim is gone."""
    for claim in ask(kubeconfig, "/api/v1/persistentvolumeclaims")["items"]:
        if _is_ours(claim) and claim["status"]["phase"] == "Pending":
            made = _volume(claim, folder / claim["metadata"]["uid"])
            kubectl(kubeconfig, "apply", "-f", "-", given=json.dumps(made))
    for volume in ask(kubeconfig, "/api/v1/persistentvolumes")["items"]:
        if _is_ours(volume) and volume["status"].get("phase") == "Released":
            kubectl(kubeconfig, "delete", "pv", volume["metadata"]["name"])
            shutil.rmtree(volume["spec"]["hostPath"]["path"], ignore_errors=True)


def _is_ours(item: dict[str, Any]) -> bool:
    return bool(item["spec"].get("storageClassName") == CLASS)


def _volume(claim: dict[str, Any], folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o777)  # containers run as users of their own
    about, spec = claim["metadata"], claim["spec"]
    reference = {"kind": "PersistentVolumeClaim", "namespace": about["namespace"], "name": about["name"]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"rig-{about['uid']}", "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "storageClassName": CLASS,
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {**reference, "uid": about["uid"]},
            "hostPath": {"path": str(folder), "type": "Directory"},
            "persistentVolumeReclaimPolicy": "Retain",  # this process deletes it
        },
    }


if __name__ == "__main__":
    while True:
        try:
            provide(Path(sys.argv[1]), Path(sys.argv[2]))
        except (OSError, subprocess.SubprocessError) as e:  # the API server is busy: the next round asks again
            sys.stderr.write(f"{e}\n")
        time.sleep(EVERY_S)
