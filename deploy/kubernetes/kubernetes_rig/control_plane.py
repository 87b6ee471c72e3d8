"""etcd, the API server, the controllers and the scheduler, on free ports of 127.0.0.1."""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from kubernetes_rig.binaries import binary
from kubernetes_rig.ports import HOST, free_ports
from kubernetes_rig.processes import Processes

NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
SELF_SIGNED = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365", "-subj", "/O=system:masters/CN=rig")
SERVICE_ADDRESSES = "10.96.0.0/16"


def start_control_plane(folder: Path, processes: Processes) -> Path:
    """Start them below `folder`, one after the other was ready; the kubeconfig of an administrator."""
    etcd, peer, api, controllers, scheduler = free_ports(5)
    processes.start("etcd", _etcd(folder, etcd, peer))
    processes.wait("etcd", lambda: answers(f"http://{HOST}:{etcd}/health"))
    kubeconfig = _write_credentials(folder, api)
    processes.start("kube-apiserver", _api_server(folder, etcd, api))
    processes.wait("kube-apiserver", lambda: _is_ready(kubeconfig))
    signing = [f"--service-account-private-key-file={folder}/sa.key", f"--root-ca-file={folder}/pki/apiserver.crt"]
    plugins = f"--flex-volume-plugin-dir={folder}/volume-plugins"  # it would be made below /usr
    for name, port, own in (
        ("kube-controller-manager", controllers, [*signing, plugins]),
        ("kube-scheduler", scheduler, []),
    ):
        common = [f"--kubeconfig={kubeconfig}", "--leader-elect=false", f"--bind-address={HOST}"]
        processes.start(name, [binary(name), *common, f"--secure-port={port}", *own])
    processes.wait("kube-controller-manager", lambda: answers(f"https://{HOST}:{controllers}/healthz"))
    processes.wait("kube-scheduler", lambda: answers(f"https://{HOST}:{scheduler}/healthz"))
    return kubeconfig


def kubectl(kubeconfig: Path, *args: str, given: str | None = None) -> str:
    """What `kubectl ARGS` prints, with `given` as its input."""
    command = [binary("kubectl"), f"--kubeconfig={kubeconfig}", *args]
    done = subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    return done.stdout


def ask(kubeconfig: Path, path: str) -> Any:
    """The JSON that the API server has at a path; raises OSError where it does not answer."""
    config = json.loads(kubeconfig.read_text())
    cluster, token = config["clusters"][0]["cluster"], config["users"][0]["user"]["token"]
    request = urllib.request.Request(cluster["server"] + path, headers={"Authorization": f"Bearer {token}"})
    trusted = ssl.create_default_context(cafile=cluster["certificate-authority"])
    with urllib.request.urlopen(request, timeout=10, context=trusted) as answer:
        return json.load(answer)


def _etcd(folder: Path, port: int, peer: int) -> list[str]:
    own, of_peers = f"http://{HOST}:{port}", f"http://{HOST}:{peer}"
    return [
        binary("etcd"),
        f"--data-dir={folder}/etcd",
        f"--listen-client-urls={own}",
        f"--advertise-client-urls={own}",
        f"--listen-peer-urls={of_peers}",
        f"--initial-advertise-peer-urls={of_peers}",
        f"--initial-cluster=default={of_peers}",
        "--unsafe-no-fsync",  # what a test writes need not outlive the machine
    ]


def _api_server(folder: Path, etcd: int, port: int) -> list[str]:
    return [
        binary("kube-apiserver"),
        f"--etcd-servers=http://{HOST}:{etcd}",
        f"--bind-address={HOST}",
        f"--advertise-address={HOST}",
        f"--secure-port={port}",
        f"--cert-dir={folder}/pki",
        f"--service-account-key-file={folder}/sa.pub",
        f"--service-account-signing-key-file={folder}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={SERVICE_ADDRESSES}",
        f"--token-auth-file={folder}/tokens.csv",
        f"--kubelet-client-certificate={folder}/kubelet-client.crt",
        f"--kubelet-client-key={folder}/kubelet-client.key",
        "--kubelet-preferred-address-types=Hostname",
        # By these it vouches for callers at API servers behind it, such as KEDA's metrics server.
        f"--proxy-client-cert-file={folder}/proxy-client.crt",
        f"--proxy-client-key-file={folder}/proxy-client.key",
        f"--requestheader-client-ca-file={folder}/proxy-client.crt",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--authorization-mode=RBAC",
        "--allow-privileged",
        "--endpoint-reconciler-type=none",
        "--feature-gates=WatchList=false",  # Debian's etcd is too old for it: each watch of KWOK would end at once
    ]


def _write_credentials(folder: Path, port: int) -> Path:
    """A token of an administrator, the key of service accounts' tokens, and what others know the server by."""
    token, kubeconfig = secrets.token_hex(24), folder / "kubeconfig"
    for file, text in (
        (folder / "tokens.csv", f"{token},rig,rig,system:masters\n"),
        (kubeconfig, json.dumps(_kubeconfig(port, folder / "pki" / "apiserver.crt", token), indent=1)),
    ):
        file.touch(mode=0o600)
        file.write_text(text)
    for command in (
        ["genrsa", "-out", str(folder / "sa.key"), "2048"],
        ["rsa", "-in", str(folder / "sa.key"), "-pubout", "-out", str(folder / "sa.pub")],
        *(
            [*SELF_SIGNED, "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
            for name in ("kubelet-client", "proxy-client")
        ),
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=60)
    return kubeconfig


def _kubeconfig(port: int, authority: Path, token: str) -> dict[str, Any]:
    server = {"server": f"https://{HOST}:{port}", "certificate-authority": str(authority)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "rig", "cluster": server}],
        "users": [{"name": "rig", "user": {"token": token}}],
        "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": "rig"}}],
        "current-context": "rig",
    }


def _is_ready(kubeconfig: Path) -> bool:
    command = [binary("kubectl"), f"--kubeconfig={kubeconfig}", "get", "--raw=/readyz"]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def answers(url: str) -> bool:
    """Whether somebody answers there that all is well."""
    unverified = ssl.create_default_context()  # each makes its own certificate, and is asked for its health alone
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=5, context=unverified if url.startswith("https") else None) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
