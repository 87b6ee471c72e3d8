"""The operator's part of the chart, by Helm and on a real API server."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from tests.integrations.environments import Environment
from tests.kubernetes.chart import COMPLETE, TRIAL, named, pods, template, variables
from tests.kubernetes.cluster import Cluster

from everloop_schemas.topology import SERVICES

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]
PART = "app.kubernetes.io/component"
GIVEN = {
    "everywhere": (TRIAL, ["operator.enabled=true"]),
    "secured, in two namespaces": (
        COMPLETE,
        [
            "operator.enabled=true",
            "operator.tokenSecret.name=operator-token",
            "operator.namespaces={default,kube-public}",
            "operator.apiServer.to[0].ipBlock.cidr=10.96.0.1/32",
        ],
    ),
}


def operator_part(made: Environment, name: str) -> list[dict[str, Any]]:
    """The operator's objects of a rendering."""
    file, sets = GIVEN[name]
    done = template(made, [file], sets)
    assert done.returncode == 0, done.stderr
    objects = [found for found in yaml.safe_load_all(done.stdout) if found]
    return [found for found in objects if found["metadata"]["labels"].get(PART) == "operator"]


@pytest.mark.parametrize("name", GIVEN)
def test_the_api_server_takes_the_operator_s_part(made: Environment, cluster: Cluster, name: str) -> None:
    part = operator_part(made, name)

    answer = cluster.kubectl("apply", "--dry-run=server", "--filename=-", given=yaml.safe_dump_all(part))

    assert answer.count("(server dry run)") == len(part) >= 5
    assert "warning" not in answer.lower()


@pytest.mark.parametrize("name", GIVEN)
def test_the_operator_is_locked_down_and_may_do_what_its_resources_need(made: Environment, name: str) -> None:
    part = operator_part(made, name)
    [(_, spec)] = pods(part)

    [container] = spec["containers"]
    [role] = named(part, "ClusterRole").values()

    assert (spec["securityContext"]["runAsNonRoot"], spec["securityContext"]["runAsUser"]) == (True, 10001)
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {resource: rule["verbs"] for rule in role["rules"] for resource in rule["resources"]} == {
        "loops": ["get", "list", "watch", "patch"],
        "loops/status": ["patch"],
        "events": ["create"],
    }
    assert {f"EVERLOOP_{service.upper()}_URL" for service in SERVICES} <= variables(spec).keys()


def test_an_operator_of_named_namespaces_has_its_rights_there_alone_and_shows_token_and_certificate(
    made: Environment,
) -> None:
    part = operator_part(made, "secured, in two namespaces")
    [(_, spec)] = pods(part)

    bindings = [found for found in part if found["kind"].endswith("Binding")]

    assert [(b["kind"], b["metadata"]["namespace"]) for b in bindings] == [
        ("RoleBinding", "default"),
        ("RoleBinding", "kube-public"),
    ]
    told = variables(spec)
    assert told["EVERLOOP_OPERATOR_NAMESPACES"] == "default,kube-public"
    assert told["EVERLOOP_REGISTRY_URL"] == "https://house-registry:8000"
    assert (told["EVERLOOP_TOKEN_FILE"], told["EVERLOOP_TLS_CA"]) == (
        "/run/everloop/token/token",
        "/run/everloop/tls/ca.crt",
    )
    secrets = {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
    assert secrets == {"operator-token", "house-operator-tls"}
    [policy] = named(part, "NetworkPolicy").values()
    assert [{p["port"] for p in rule["ports"]} for rule in policy["spec"]["egress"]] == [{53}, {443, 6443}, {8000}]


def test_an_operator_without_a_token_is_refused_where_access_is_controlled(made: Environment) -> None:
    done = template(made, [COMPLETE], ["operator.enabled=true"])

    assert done.returncode == 1
    assert "operator.tokenSecret.name: with access control the operator needs a key" in done.stderr
