"""The chart on a real API server, on whose nodes nothing runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.integrations.environments import Environment
from tests.integrations.in_memory import in_memory
from tests.kubernetes.chart import ARTIFACTS, CHART, CLOUDNATIVEPG, EXAMPLES, SETS, TRIAL, template
from tests.kubernetes.cluster import Cluster, wait_until

from everloop_schemas.topology import SERVICES

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]


@pytest.mark.parametrize("name", SETS)
def test_the_api_server_takes_everything_that_is_rendered(made: Environment, cluster: Cluster, name: str) -> None:
    done = template(made, *SETS[name])
    objects = [found for found in yaml.safe_load_all(done.stdout) if found]

    answer = cluster.kubectl("apply", "--dry-run=server", "--filename=-", given=done.stdout)

    assert answer.count("(server dry run)") == len(objects)
    assert "warning" not in answer.lower()


def test_the_clusters_of_our_example_are_cloudnativepg_s(cluster: Cluster) -> None:
    crd = (
        _module("github.com/cloudnative-pg/cloudnative-pg@v1.27.0")
        / "config/crd/bases/postgresql.cnpg.io_clusters.yaml"
    )
    cluster.kubectl("create", f"--filename={crd}")
    try:
        wait_until(lambda: _is_established(cluster, crd), "CloudNativePG's resources are established")
        answer = cluster.kubectl("apply", "--dry-run=server", f"--filename={EXAMPLES / 'cloudnativepg.yaml'}")
    finally:
        cluster.kubectl("delete", f"--filename={crd}", "--wait=false")

    used = yaml.safe_load(CLOUDNATIVEPG.read_text())
    assert answer.count("(server dry run)") == 2
    assert used["postgresql"]["registry"]["urlSecret"]["name"] == "postgresql-app"
    assert used["personal"]["urlSecret"]["name"] == "keys-app"


def _is_established(cluster: Cluster, crd: Path) -> bool:
    """Whether its resources can be used; `kubectl wait` fails on one that has no conditions yet."""
    conditions = cluster.get(f"--filename={crd}")["status"].get("conditions") or []
    return any((each["type"], each["status"]) == ("Established", "True") for each in conditions)


def _module(name: str) -> Path:
    """The folder of a Go module in the module cache."""
    if shutil.which("go") is None:
        pytest.skip("no Go, by whose module cache CloudNativePG's custom resources come")
    done = subprocess.run(["go", "mod", "download", "-json", name], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{name} cannot be had: {done.stdout[-200:]}")
    return Path(json.loads(done.stdout)["Dir"])


def test_a_release_is_installed_upgraded_rolled_back_and_removed(cluster: Cluster) -> None:
    space, release = ("--namespace=chart", "--timeout=5m"), ("everloop", str(CHART), f"--values={TRIAL}")
    cluster.kubectl("create", "namespace", "chart")
    cluster.kubectl("apply", *space[:1], "--filename=-", given=ARTIFACTS)
    try:
        installed = cluster.helm("install", *release, *space, "--wait")
        ready = _ready(cluster)
        cluster.helm(
            "upgrade", *release, *space, "--wait", "--set=services.serving.replicas=3", "--set=image.tag=0.2.0"
        )
        upgraded = _ready(cluster)
        images = {
            pod["spec"]["containers"][0]["image"].rpartition(":")[2]
            for pod in cluster.get("pods", *space[:1], "--selector=app.kubernetes.io/component")["items"]
            if pod["metadata"]["labels"]["app.kubernetes.io/component"] in SERVICES
        }
        cluster.helm("rollback", "everloop", "1", *space, "--wait")
        back = _ready(cluster)
        history = json.loads(cluster.helm("history", "everloop", *space[:1], "--output=json"))
        cluster.helm("uninstall", "everloop", *space, "--wait")
        left = cluster.get(
            "all,configmap,networkpolicy,serviceaccount,pdb",
            *space[:1],
            "--selector=app.kubernetes.io/part-of=everloop",
        )
        leases = cluster.get("leases", "--namespace=kube-node-lease")["items"]
        claims = cluster.get("persistentvolumeclaims", *space[:1])["items"]
    finally:
        cluster.kubectl("delete", "namespace", "chart", "--wait=false")

    assert "WARNING: access control is off" in installed
    assert len(leases) == 3, "a node without a lease is taken for dead after 50 s, and nothing on it is ready"
    assert ready == {"everloop-ingest": 2, "everloop-serving": 2} | dict.fromkeys(
        (f"everloop-{name}" for name in ("feature", "training", "registry", "monitoring")), 1
    )
    assert upgraded == ready | {"everloop-serving": 3}
    assert images == {"0.2.0"}
    assert back == ready
    assert [entry["status"] for entry in history] == ["superseded", "superseded", "deployed"]
    assert [found["metadata"]["name"] for found in left["items"]] == []
    assert {claim["metadata"]["name"] for claim in claims} >= {"data-everloop-serving-0", "data-everloop-serving-2"}


def _ready(cluster: Cluster) -> dict[str, int]:
    found = cluster.get("deployments,statefulsets", "--namespace=chart")["items"]
    return {of["metadata"]["name"]: of["status"].get("readyReplicas", 0) for of in found}


def test_what_helm_test_runs_closes_a_loop_and_does_so_again(tmp_path: Path) -> None:
    loop = [sys.executable, str(CHART / "files/loop.py")]
    with in_memory(tmp_path) as house:
        own = {**house.environment, "WITHIN_S": "120"}
        runs = [subprocess.run(loop, env=own, capture_output=True, text=True, check=False) for _ in range(2)]

    for done in runs:
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-3:] == [
            "20 outcomes, of requests and of the stream",
            "the loop is deleted",
            "the loop is closed",
        ]
