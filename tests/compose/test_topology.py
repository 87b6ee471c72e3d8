"""Compose, the Dockerfile, Prometheus, the service cards and the settings agree with the table of the topology."""

from __future__ import annotations

import importlib
import re
from functools import cache
from typing import Any

import pytest
import yaml
from tests.compose.stack import ROOT

from everloop.local.personal import OPENING
from everloop.local.ports import DEFAULT_BASE, HIGHEST_BASE
from everloop.secured.container_files import ContainerFile, container_files
from everloop.secured.folder import ensure_secured
from everloop_schemas.topology import CONTAINER_PORT, KAFKA_PORT, SERVICES, ServiceTopology, ports_from

ALL = pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))
ARTIFACTS = {"none": set[str](), "read": {"artifacts:/artifacts:ro"}, "write": {"artifacts:/artifacts"}}


class Compose(yaml.SafeLoader):
    """Reads compose files: `!reset` takes a setting of an earlier file away, `!override` replaces it."""

    def take_away(self, node: yaml.Node) -> None:
        """Nothing."""

    def replace(self, node: yaml.SequenceNode) -> list[Any]:
        """The list."""
        return list(self.construct_sequence(node))


Compose.add_constructor("!reset", Compose.take_away)
Compose.add_constructor("!override", Compose.replace)


@cache
def compose(file: str = "docker-compose.yml") -> dict[str, Any]:
    """A file of compose, without what stands in for a part of the secured installation."""
    loaded: dict[str, Any] = yaml.load((ROOT / file).read_text(), Compose)
    return loaded | {"services": {n: c for n, c in loaded["services"].items() if c.get("profiles") != ["secure"]}}


def secured() -> dict[str, Any]:
    """What differs in the secured installation."""
    return compose("deploy/secure/compose.yml")


def card(service: ServiceTopology) -> str:
    return (ROOT / f"services/{service.name}/README.md").read_text()


def test_compose_builds_exactly_the_services() -> None:
    built = {name for name, service in compose()["services"].items() if "build" in service}

    assert built == {*SERVICES, "masterkey"}


@ALL
def test_compose_runs_a_service_as_the_topology_has_it(service: ServiceTopology) -> None:
    container = compose()["services"][service.name]
    host_port = f"${{{service.variable('port')}:-{service.port}}}"
    grpc_port = f"${{{service.variable('grpc_port')}:-{service.grpc_port}}}:{service.grpc_port}"
    grpc = [f"${{EVERLOOP_BIND:-127.0.0.1}}:{grpc_port}"] if service.grpc_port else []

    assert container["hostname"] == service.name
    assert container["build"]["args"] == {"SERVICE": service.name, "EVERLOOP_PYTHON_IMAGE": None}
    assert container["ports"] == [f"${{EVERLOOP_BIND:-127.0.0.1}}:{host_port}:{CONTAINER_PORT}", *grpc]
    opening = service.name in OPENING
    assert set(container["depends_on"]) == service.depends_on | ({"masterkey"} if opening else set())
    stored = {volume for volume in container["volumes"] if not volume.startswith((".", "$"))}  # files are read only
    key = {"master-key:/personal:ro"} if opening else set()
    assert stored == {f"{service.name}:/data"} | ARTIFACTS[service.artifacts] | key
    assert all(volume.endswith(":ro") for volume in set(container["volumes"]) - stored)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[ContainerFile]:
    """What `everloop secure` makes for containers."""
    folder = tmp_path_factory.mktemp("secured")
    ensure_secured(folder)
    return list(container_files(folder))


@ALL
def test_a_secured_service_has_tls_access_control_and_its_own_files(
    service: ServiceTopology, files: list[ContainerFile]
) -> None:
    container = secured()["services"][service.name]
    variables = container["environment"]

    assert container["volumes"] == [
        f"{service.name}-files:/run/everloop:ro",
        "${EVERLOOP_SECURED:-./.secured}/shared:/etc/everloop-access:ro",
    ]
    assert variables["EVERLOOP_AUTH"] == "on"
    for name in ("TLS_CERT", "TLS_KEY", "TLS_CA", "TLS_CLIENT_CA", "KAFKA_CONFIG", "TRUSTED_KEYS"):
        assert f"EVERLOOP_{name}" in variables
    assert ("sslmode=verify-full" in variables.get(service.variable("database_url"), "")) == service.database
    assert ("sslmode=verify-full" in variables.get("EVERLOOP_PERSONAL_KEYS_URL", "")) == (service.name in OPENING)
    assert variables["PGPASSWORD"] is None, "the password of the plain installation is taken away"
    assert "roles" in container["depends_on"]
    assert "acls" in container["depends_on"]
    made = {f"/run/everloop/{file.name}" for file in files if file.container == service.name}
    named = set(re.findall(r"/run/everloop/[a-z.]+", str(variables)))
    assert named <= made, "compose names a file that `everloop secure` does not make"


def test_what_is_added_for_a_secured_installation_is_locked_down_as_well() -> None:
    for name in ("acls", "roles", "files"):
        container = secured()["services"][name]
        assert container["read_only"], name
        assert container["cap_drop"] == ["ALL"], name
        assert container.get("cap_add", []) == (["CHOWN"] if name == "files" else []), name
        assert container["restart"] == ("no" if name == "files" else "on-failure:5"), name
        assert (container.get("network_mode") == "none") == (name != "acls"), name
    assert secured()["services"]["files"]["profiles"] == ["files"], "it runs where it is asked for, and is gone then"


def test_both_files_of_prometheus_say_the_same_but_for_tls_and_the_token() -> None:
    plain, with_tls = (
        yaml.safe_load((ROOT / f"deploy/prometheus/{name}.yml").read_text()) for name in ("prometheus", "secured")
    )

    for added in ("scheme", "tls_config", "authorization"):
        with_tls["scrape_configs"][0].pop(added)
    assert with_tls == plain


@ALL
def test_compose_gives_a_service_the_environment_that_it_needs(service: ServiceTopology) -> None:
    variables = compose()["services"][service.name]["environment"]

    assert variables["EVERLOOP_KAFKA_BOOTSTRAP"] == f"kafka:{KAFKA_PORT}"
    assert (service.variable("database_url") in variables) == service.database
    assert set(SERVICES) <= set(variables["EVERLOOP_ALLOWED_HOSTS"].split(","))
    assert variables["EVERLOOP_PUBLISHED_ON"] == "${EVERLOOP_BIND:-127.0.0.1}", "open to nobody without EVERLOOP_AUTH"
    assert variables["EVERLOOP_AUTH"] == "${EVERLOOP_AUTH:-}"
    for name in ("OTLP_URL", "OTLP_HEADERS", "TRACE_SAMPLING", "TRACE_FORCED_PER_S"):  # the same for all services
        assert variables[f"EVERLOOP_{name}"] == f"${{EVERLOOP_{name}:-}}"
    assert (
        "${EVERLOOP_ACCESS:-./deploy/access}:/etc/everloop-access:ro" in compose()["services"][service.name]["volumes"]
    )


def test_the_master_key_is_where_values_are_sealed_and_opened_and_where_it_is_made() -> None:
    for name, container in compose()["services"].items():
        mounts = [volume.partition(":")[2] for volume in container["volumes"] if volume.startswith("master-key:")]
        assert mounts == {"masterkey": ["/personal"]}.get(name, ["/personal:ro"] if name in OPENING else []), name
        told = container.get("environment", {}).get("EVERLOOP_PERSONAL_KEYS_URL", "")
        assert ("@keys/personal" in told) == (name in {*OPENING, "masterkey"}), name


def test_prometheus_scrapes_exactly_the_services() -> None:
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]

    assert sorted(targets) == sorted(f"{name}:{CONTAINER_PORT}" for name in SERVICES)


def test_the_image_listens_on_the_container_port() -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()

    assert f"EVERLOOP_PORT={CONTAINER_PORT}" in dockerfile
    assert f"EXPOSE {CONTAINER_PORT}\n" in dockerfile


def test_who_needs_the_database_or_kafka_is_on_its_network_and_nobody_else() -> None:
    networks = {name: set(container["networks"]) for name, container in compose()["services"].items()}

    assert {name for name, on in networks.items() if "database" in on} == {
        "postgres",
        *(service.name for service in SERVICES.values() if service.database),
    }
    assert {name for name, on in networks.items() if "bus" in on} == {"kafka", *SERVICES}
    assert networks["postgres"] == {"database"}
    assert {name for name, on in networks.items() if "keys" in on} == {"keys", "masterkey", *OPENING}
    assert networks["keys"] == networks["masterkey"] == {"keys"}
    assert {name for name, on in networks.items() if "kafka-port" in on} == {"kafka"}
    assert [name for name, network in compose()["networks"].items() if network] == ["bus", "database", "keys"], (
        "no way out"
    )


def test_every_image_is_named_with_its_digest() -> None:
    everything = [*compose()["services"].items(), *secured()["services"].items()]
    servers = {"roles": "postgres", "keys": "postgres"}
    images = {servers.get(name, name): c["image"] for name, c in everything if c.get("image")}
    [base] = re.findall(r"^ARG EVERLOOP_PYTHON_IMAGE=(.*)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)

    for name, image in images.items():
        found = re.fullmatch(r"\$\{EVERLOOP_([A-Z]+)_IMAGE:-([^@]+:[^@]+)@sha256:[0-9a-f]{64}\}", image)
        assert found, image
        assert found[1].lower() == name
    assert re.fullmatch(r"python:[^@]+@sha256:[0-9a-f]{64}", base)


def test_nothing_that_runs_is_root_or_may_write_or_has_a_capability() -> None:
    for name, container in compose()["services"].items():
        assert container["read_only"], name
        assert container["cap_drop"] == ["ALL"], name
        assert container["security_opt"] == ["no-new-privileges:true"], name
        assert container["pids_limit"] > 0, name
        assert container["mem_limit"], name
        assert "cap_add" not in container, name
        assert "build" in container or container["user"].partition(":")[0] not in ("0", "root"), name


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
