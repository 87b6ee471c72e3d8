"""Compose, the Dockerfile, Prometheus, the service cards and the settings agree with the table of the topology."""

from __future__ import annotations

import importlib
import re
from functools import cache
from typing import Any

import pytest
import yaml
from tests.compose.stack import ROOT

from everloop.local.ports import DEFAULT_BASE, HIGHEST_BASE
from everloop_schemas.topology import CONTAINER_PORT, KAFKA_PORT, SERVICES, ServiceTopology, ports_from

ALL = pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))
ARTIFACTS = {"none": set[str](), "read": {"artifacts:/artifacts:ro"}, "write": {"artifacts:/artifacts"}}


@cache
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def card(service: ServiceTopology) -> str:
    return (ROOT / f"services/{service.name}/README.md").read_text()


def test_compose_builds_exactly_the_services() -> None:
    built = {name for name, service in compose()["services"].items() if "build" in service}

    assert built == set(SERVICES)


@ALL
def test_compose_runs_a_service_as_the_topology_has_it(service: ServiceTopology) -> None:
    container = compose()["services"][service.name]
    host_port = f"${{{service.variable('port')}:-{service.port}}}"
    grpc_port = f"${{{service.variable('grpc_port')}:-{service.grpc_port}}}:{service.grpc_port}"
    grpc = [f"${{EVERLOOP_BIND:-127.0.0.1}}:{grpc_port}"] if service.grpc_port else []

    assert container["hostname"] == service.name
    assert container["build"]["args"] == {"SERVICE": service.name}
    assert container["ports"] == [f"${{EVERLOOP_BIND:-127.0.0.1}}:{host_port}:{CONTAINER_PORT}", *grpc]
    assert set(container["depends_on"]) == service.depends_on
    stored = {
        volume for volume in container["volumes"] if not volume.startswith("./")
    }  # files of deploy/ are read only
    assert stored == {f"{service.name}:/data"} | ARTIFACTS[service.artifacts]
    assert all(volume.endswith(":ro") for volume in set(container["volumes"]) - stored)


@ALL
def test_compose_gives_a_service_the_environment_that_it_needs(service: ServiceTopology) -> None:
    variables = compose()["services"][service.name]["environment"]

    assert variables["EVERLOOP_KAFKA_BOOTSTRAP"] == f"kafka:{KAFKA_PORT}"
    assert (service.variable("database_url") in variables) == service.database
    assert set(SERVICES) <= set(variables["EVERLOOP_ALLOWED_HOSTS"].split(","))
    assert variables["EVERLOOP_PUBLISHED_ON"] == "${EVERLOOP_BIND:-127.0.0.1}", "open to nobody without EVERLOOP_AUTH"
    assert variables["EVERLOOP_AUTH"] == "${EVERLOOP_AUTH:-}"
    assert "./deploy/access:/etc/everloop-access:ro" in compose()["services"][service.name]["volumes"]


def test_prometheus_scrapes_exactly_the_services() -> None:
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]

    assert sorted(targets) == sorted(f"{name}:{CONTAINER_PORT}" for name in SERVICES)


def test_the_image_listens_on_the_container_port() -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()

    assert f"EVERLOOP_PORT={CONTAINER_PORT}" in dockerfile
    assert f"EXPOSE {CONTAINER_PORT}\n" in dockerfile
    assert f"('127.0.0.1', {CONTAINER_PORT})" in dockerfile


@ALL
def test_a_service_listens_on_the_port_of_its_card(service: ServiceTopology) -> None:
    settings = importlib.import_module(f"{service.package}.settings")
    loaded = getattr(settings, f"{service.name.title()}Settings").load(service.name, {})

    assert loaded.port == service.port
    assert f"`{service.variable('port')}` {service.port}" in card(service)


@ALL
def test_an_environment_variable_overrides_the_port(service: ServiceTopology) -> None:
    settings = importlib.import_module(f"{service.package}.settings")
    load = getattr(settings, f"{service.name.title()}Settings").load

    assert load(service.name, {service.variable("port"): "9"}).port == 9
    assert load(service.name, {"EVERLOOP_PORT": "0"}).port == 0


def test_the_ports_of_a_local_installation_are_those_of_the_topology() -> None:
    assert ports_from(DEFAULT_BASE) == {name: service.port for name, service in SERVICES.items()}
    assert max(ports_from(HIGHEST_BASE).values()) == 65_535
    assert len(set(re.findall(r"\d+", str(ports_from(9001))))) == len(SERVICES)
