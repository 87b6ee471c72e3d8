"""The operator and a small Everloop as processes, for the tests on a real API server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from tests.kubernetes.chart import CHART, KUBE
from tests.kubernetes.cluster import ROOT, Cluster, wait_until

from everloop.local.ports import free_port

READY_S = 180.0
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")
VALUES = {
    "operator.enabled": "true",
    "access.enabled": "false",
    "kafka.bootstrap": "kafka:9092",
    "postgresql.enabled": "false",
    "artifacts.url": "s3://artifacts/everloop",
}
"""Of the chart, as far as it asks for them before it renders the operator's part."""


@dataclass
class SmallEverloop:
    """All six services on the memory bus, which forgets everything when it is stopped."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        command = [
            sys.executable,
            "-m",
            "everloop",
            "up",
            "--bus",
            "memory",
            "--ports",
            "auto",
            "--data",
            str(self.folder),
        ]
        with (self.folder / "up.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=plain_environment())
        wait_until(lambda: b"Ctrl-C stops it" in (self.folder / "up.log").read_bytes(), "Everloop is up", READY_S)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            end(self.process)
            (self.folder / "up.log").write_bytes(b"")
            self.process = None

    def everloop(self, *args: str) -> str:
        """What `everloop ARGS` prints; raises AssertionError with what it said on failure."""
        command = [sys.executable, "-m", "everloop", *args, "--data", str(self.folder)]
        done = subprocess.run(
            command, env=plain_environment(), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout


@dataclass
class OperatorProcess:
    """`python -m everloop_operator`."""

    kubeconfig: Path
    everloop: Path
    log: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        environment = plain_environment() | {
            "KUBECONFIG": str(self.kubeconfig),
            "EVERLOOP_DATA": str(self.everloop),
            "PYTHONPATH": str(ROOT / "deploy" / "operator"),
            "EVERLOOP_OPERATOR_POLL_S": "0.5",
            "EVERLOOP_OPERATOR_QUALITY_S": "0.5",
            "EVERLOOP_OPERATOR_PORT": str(free_port()),
            **self.settings,
        }
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "everloop_operator"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it by this signal."""
        if self.process is not None:
            end(self.process, number)
            self.process = None


def give_rights(cluster: Cluster, namespace: str, file: Path) -> Path:
    """Create the service account of the chart's operator, with its rights and no others; the file that says them."""
    values = ",".join(f"{name}={value}" for name, value in VALUES.items())
    options = ["--set", values, "--kube-version", KUBE, "--show-only", "templates/operator.yaml"]
    rendered = cluster.helm("template", "everloop", str(CHART), "--namespace", namespace, *options)
    wanted = [part for part in yaml.safe_load_all(rendered) if part and part["kind"] in RIGHTS]
    for part in wanted:
        if part["kind"] == "ServiceAccount":
            part["metadata"]["namespace"] = namespace
    file.write_text(yaml.safe_dump_all(wanted))
    cluster.kubectl("create", "-f", str(file))
    return file


def own_kubeconfig(cluster: Cluster, namespace: str, folder: Path) -> Path:
    """A kubeconfig with the service account's token in place of the administrator's."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("--namespace", namespace, "create", "token", "everloop-operator", "--duration=1h").strip()
    for user in config["users"]:
        user["user"] = {"token": token}
    file = folder / "kubeconfig"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(config))
    return file


@contextmanager
def running(part: SmallEverloop | OperatorProcess) -> Iterator[None]:
    """Started for the block, and ended after it."""
    try:
        part.start()
        yield
    finally:
        part.stop()


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    """End a process by a signal, and by SIGKILL where that takes too long."""
    process.send_signal(number)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=30)


def plain_environment() -> dict[str, str]:
    """The environment without settings of Everloop or Kubernetes."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("EVERLOOP_", "KUBE", "PYTHONPATH"))}
