"""What the chart renders by Helm: locked down, without secrets, with what each service needs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.integrations.environments import Environment
from tests.kubernetes.chart import CHART, COMPLETE, SETS, TRIAL, named, pods, rendered, variables

from everloop_schemas.topology import SERVICES

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]


def test_helm_has_nothing_to_say_about_the_chart(made: Environment) -> None:
    helm = str(Path(made.python).parent / "helm")

    done = [
        subprocess.run([helm, "lint", "--strict", str(CHART), *of], capture_output=True, text=True, check=False)
        for of in ([], ["--values", str(TRIAL)], ["--values", str(COMPLETE)])
    ]

    assert [one.returncode for one in done] == [0, 0, 0], [one.stdout for one in done]


@pytest.mark.parametrize("name", SETS)
def test_nothing_that_runs_is_root_or_may_write_or_has_a_capability_or_a_token(made: Environment, name: str) -> None:
    found = dict(pods(rendered(made, name)))

    assert len(found) >= len(SERVICES)
    for pod, spec in found.items():
        security = spec["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 10001), pod
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, pod
        assert spec["automountServiceAccountToken"] is False, pod
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"], pod
            assert not own["allowPrivilegeEscalation"], pod
            assert own["capabilities"] == {"drop": ["ALL"]}, pod
            assert container["resources"]["limits"]["memory"], pod
        volumes = {volume["name"] for volume in spec["volumes"]} | {"data"}
        mounted = {
            mount["name"] for c in [*spec["containers"], *spec.get("initContainers", [])] for mount in c["volumeMounts"]
        }
        assert mounted - volumes == set(), pod
        assert volumes - mounted <= {"data"}, pod


@pytest.mark.parametrize("name", SETS)
def test_no_secret_is_written_into_an_object(made: Environment, name: str) -> None:
    objects = rendered(made, name)

    assert "Secret" not in {found["kind"] for found in objects}
    for pod, spec in pods(objects):
        for entry in (e for c in spec["containers"] for e in c.get("env", [])):
            if "PASSWORD" in entry["name"] or entry["name"].endswith("TOKEN"):
                assert "valueFrom" in entry, (pod, entry["name"])


def test_settings_and_files_reach_the_service_that_reads_them(made: Environment) -> None:
    found = dict(pods(rendered(made, "complete")))

    assert variables(found["house-feature"])["EVERLOOP_FEATURE_MAX_ENTITIES"] == "20000000"
    assert {variables(found[f"house-{name}"])["EVERLOOP_MAX_BODY_BYTES"] for name in SERVICES} == {"16000000"}
    assert variables(found["house-serving"])["EVERLOOP_SERVING_FEATURE_URL"].count("https://house-feature-") == 12
    assert variables(found["house-topics"])["EVERLOOP_RETENTION"] == "serving.prediction_made.v1=14d"
    assert variables(found["house-acls"])["EVERLOOP_ACLS_SOURCES"] == "orders,clicks"
    secrets = {
        name: {
            s["secret"]["name"]
            for v in found[f"house-{name}"]["volumes"]
            for s in v.get("projected", {}).get("sources", [])
        }
        for name in (*SERVICES, "topics", "acls")
    }
    assert secrets["feature"] == {"house-kafka-feature", "master-key"}
    assert secrets["training"] == {"house-kafka-training", "master-key", "training-signing"}
    assert secrets["registry"] == {"house-kafka-registry", "registry-signing"}
    assert secrets["topics"] == secrets["acls"] == {"house-kafka-admin"}


def test_what_scales_by_lag_follows_its_own_group_and_what_scales_by_requests_its_cpu(made: Environment) -> None:
    objects = rendered(made, "complete")

    scaled, hpas = named(objects, "ScaledObject"), named(objects, "HorizontalPodAutoscaler")

    assert set(scaled) == {f"house-{name}" for name in ("feature", "training", "serving", "monitoring")}
    assert set(hpas) == {"house-ingest"}
    for name, object_ in scaled.items():
        kafka = [t["metadata"] for t in object_["spec"]["triggers"] if t["type"] == "kafka"]
        assert {t["consumerGroup"] for t in kafka} == {f"prod.{name.removeprefix('house-')}"}
        assert all(t["topic"].startswith("prod.") for t in kafka)
    assert [t["type"] for t in scaled["house-serving"]["spec"]["triggers"]] == ["kafka", "cpu"]
    replicas = {name: of["spec"].get("replicas") for name, of in named(objects, "StatefulSet").items()}
    assert replicas["house-feature"] is None, "an upgrade would set it back"
    assert replicas["house-registry"] == 2


def test_a_service_reaches_what_it_needs_and_is_reached_by_nobody_else(made: Environment) -> None:
    policies = named(rendered(made, "complete"), "NetworkPolicy")
    ports = {
        name.removeprefix("house-"): {p["port"] for rule in of["spec"]["egress"] for p in rule["ports"]}
        for name, of in policies.items()
    }

    assert set(ports) == set(SERVICES)
    assert ports["ingest"] == {53, 9094, 5432, 443}, "the keys of personal fields, and the provider of tokens"
    assert ports["registry"] == {53, 9094, 5432, 443}
    assert 8000 in ports["serving"] & ports["monitoring"]
    assert 8000 not in ports["feature"] | ports["training"] | ports["ingest"] | ports["registry"]
    plain = named(rendered(made, "trial"), "NetworkPolicy")["everloop-serving"]["spec"]["ingress"]
    assert [list(peer) for rule in plain for peer in rule["from"]] == [["podSelector"]]
