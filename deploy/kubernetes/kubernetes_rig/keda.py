"""KEDA's operator, metrics server and webhooks as processes, with the rights that its manifests give its account."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

from kubernetes_rig.binaries import binary, cache
from kubernetes_rig.control_plane import SELF_SIGNED, answers, kubectl
from kubernetes_rig.ports import HOST, free_ports
from kubernetes_rig.processes import Processes

OPERATOR, METRICS_SERVER, WEBHOOKS = NAMES = ("keda-operator", "keda-metrics-server", "keda-webhooks")
NAMESPACE = "keda"
SERVICE = "keda-metrics-apiserver"
"""KEDA's names, as its manifests have them."""
API = "v1beta1.external.metrics.k8s.io"
TOKEN_LASTS = "720h"
HOSTS = ",".join([f"IP:{HOST}", *(f"DNS:{name}.{NAMESPACE}.svc" for name in ("keda-operator", SERVICE))])


def start_keda(folder: Path, processes: Processes, kubeconfig: Path) -> None:
    """Start them below `folder`; returns when the API server asks KEDA for external metrics, and what it admits."""
    home = folder / "keda"
    home.mkdir()
    authority = _write_certificate(home)
    kubectl(kubeconfig, "create", "namespace", NAMESPACE)
    for part in ("keda", "keda-metrics"):
        kubectl(kubeconfig, "create", "-f", str(cache() / part))
    environment = {
        "KUBECONFIG": str(_own_kubeconfig(home, kubeconfig)),
        "WATCH_NAMESPACE": "",
        "POD_NAMESPACE": NAMESPACE,
        "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
    }
    health, metrics, secure, probe, admission = free_ports(5)
    processes.start(OPERATOR, _operator(home, health, metrics), environment)
    processes.start(WEBHOOKS, _webhooks(home, probe, admission), environment)
    processes.wait(OPERATOR, lambda: answers(f"http://{HOST}:{health}/readyz"))
    processes.start(METRICS_SERVER, _metrics_server(home, metrics, secure), environment)
    processes.wait(METRICS_SERVER, lambda: answers(f"https://{HOST}:{secure}/readyz"))
    processes.wait(WEBHOOKS, lambda: answers(f"http://{HOST}:{probe}/readyz"))
    kubectl(kubeconfig, "create", "-f", "-", given=json.dumps(_registration(authority, secure)))
    kubectl(kubeconfig, "create", "-f", "-", given=json.dumps(_admission(kubeconfig, authority, admission)))
    kubectl(kubeconfig, "wait", "--for=condition=Available", f"apiservice/{API}", "--timeout=60s")


def _write_certificate(home: Path) -> str:
    """One for all three and its own authority, which is returned as the API server's resources have it."""
    files = ["-keyout", str(home / "tls.key"), "-out", str(home / "tls.crt")]
    command = ["openssl", *SELF_SIGNED, *files, "-addext", f"subjectAltName={HOSTS}"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    authority = (home / "tls.crt").read_bytes()
    (home / "ca.crt").write_bytes(authority)
    return base64.b64encode(authority).decode()


def _operator(home: Path, health: int, metrics: int) -> list[str]:
    return [
        binary(OPERATOR),
        f"--health-probe-bind-address={HOST}:{health}",
        f"--metrics-service-bind-address={HOST}:{metrics}",
        "--enable-prometheus-metrics=false",
        f"--cert-dir={home}",
        f"--ca-dir={home}",
        "--zap-encoder=console",
    ]


def _metrics_server(home: Path, metrics: int, secure: int) -> list[str]:
    return [
        binary(METRICS_SERVER),
        f"--bind-address={HOST}",
        f"--secure-port={secure}",
        "--port=0",  # of its own metrics, on all addresses: it has no other choice
        f"--metrics-service-address={HOST}:{metrics}",
        f"--metrics-service-grpc-authority=keda-operator.{NAMESPACE}.svc",
        f"--cert-dir={home}",
        f"--tls-cert-file={home}/tls.crt",
        f"--tls-private-key-file={home}/tls.key",
        *(f"--{of}-kubeconfig={home}/kubeconfig" for of in ("lister", "authentication", "authorization")),
    ]


def _webhooks(home: Path, probe: int, port: int) -> list[str]:
    return [
        binary(WEBHOOKS),
        f"--health-probe-bind-address={HOST}:{probe}",
        "--metrics-bind-address=0",
        f"--port={port}",  # on all addresses: it has no other choice
        f"--cert-dir={home}",
        "--zap-encoder=console",
    ]


def _admission(kubeconfig: Path, authority: str, port: int) -> dict[str, Any]:
    """KEDA's own, at this machine; without an answer nothing is admitted, so that no test passes unasked."""
    shown = kubectl(kubeconfig, "create", "--dry-run=client", "--output=json", "-f", str(cache() / "keda-admission"))
    found: dict[str, Any] = json.loads(shown)
    for webhook in found["webhooks"]:
        path = webhook["clientConfig"]["service"]["path"]
        webhook["clientConfig"] = {"url": f"https://{HOST}:{port}{path}", "caBundle": authority}
        webhook["failurePolicy"] = "Fail"
    return found


def _registration(authority: str, port: int) -> dict[str, Any]:
    """The API and its Service, which names this machine: no pod is behind it."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    api = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": API},
        "spec": {
            "service": {"name": SERVICE, "namespace": NAMESPACE, "port": port},
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "caBundle": authority,
        },
    }
    return {"apiVersion": "v1", "kind": "List", "items": [service, api]}


def _own_kubeconfig(home: Path, kubeconfig: Path) -> Path:
    """A kubeconfig with the token of KEDA's service account in place of the administrator's."""
    config = json.loads(kubeconfig.read_text())
    account = ("create", "token", "keda-operator", "--namespace", NAMESPACE, f"--duration={TOKEN_LASTS}")
    config["users"][0]["user"] = {"token": kubectl(kubeconfig, *account).strip()}
    own = home / "kubeconfig"
    own.touch(mode=0o600)
    own.write_text(json.dumps(config, indent=1))
    return own
