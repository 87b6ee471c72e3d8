"""What the chart holds of the project's tables is theirs; read without Helm."""

from __future__ import annotations

import importlib
import json
import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from everloop.local.personal import OPENING
from everloop_operator.settings import PREFIX as OPERATOR_PREFIX
from everloop_operator.settings import OperatorSettings
from everloop_schemas.bus_access import READS, Grant, all_grants
from everloop_schemas.topology import CONTAINER_PORT, SERVICES

ROOT = Path(__file__).parents[2]
HELM = ROOT / "deploy/helm"
CHART = HELM / "everloop"


def text(file: str) -> str:
    """A file of the chart."""
    return (CHART / file).read_text()


@cache
def values(file: str = "values.yaml") -> dict[str, Any]:
    """A file of values."""
    loaded: dict[str, Any] = yaml.safe_load(text(file))
    return loaded


def test_what_is_generated_is_what_would_be_generated_now() -> None:
    generate = runpy.run_path(str(HELM / "generate.py"))

    assert generate["stale"](CHART) == [], "run: python deploy/helm/generate.py"


def test_the_chart_has_the_services_of_the_topology_and_what_each_needs() -> None:
    topology = yaml.safe_load(text("files/topology.yaml"))

    assert topology["containerPort"] == CONTAINER_PORT
    assert set(topology["services"]) == set(values()["services"]) == set(SERVICES)
    for name, service in SERVICES.items():
        found = topology["services"][name]
        assert found["grpcPort"] == (service.grpc_port or 0)
        assert (found["database"], found["artifacts"]) == (service.database, service.artifacts)
        assert found["personal"] == (name in OPENING)
        assert set(found["scaledBy"]) <= READS[name], "it is scaled by what it consumes"


def test_the_users_of_strimzi_may_do_what_the_table_says_and_nothing_else() -> None:
    users = list(yaml.safe_load_all((HELM / "examples/strimzi.yaml").read_text()))

    allowed = {
        Grant(
            user["metadata"]["name"].removeprefix("everloop-"),
            rule["resource"]["type"].upper(),
            rule["resource"]["name"],
            re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper(),  # type: ignore[arg-type]
            rule["resource"]["patternType"] == "prefix",
        )
        for user in users
        for rule in user["spec"].get("authorization", {}).get("acls", [])
        for operation in rule["operations"]
    }

    of_keda = {grant for grant in allowed if grant.service == "keda"}
    assert allowed - of_keda == set(all_grants())
    assert {user["metadata"]["name"] for user in users} == {f"everloop-{name}" for name in (*SERVICES, "admin", "keda")}
    scaled = yaml.safe_load((CHART / "files/topology.yaml").read_text())["services"]
    groups = {name: service["scaledBy"] for name, service in scaled.items() if service["scaledBy"]}
    lag_of = {("TOPIC", topic) for topics in groups.values() for topic in topics} | {("GROUP", name) for name in groups}
    assert {(grant.kind, grant.name) for grant in of_keda} == lag_of
    assert {(str(grant.operation), grant.prefixed) for grant in of_keda} == {("DESCRIBE", False)}


def test_ports_in_templates_are_those_of_the_topology() -> None:
    templates = "".join(path.read_text() for path in sorted((CHART / "templates").rglob("*")) if path.is_file())

    ports = set(re.findall(r"(?:[pP]ort: |:)(\d{4})\b", templates))
    assert ports <= {str(CONTAINER_PORT), "8006"}, "8006 is where a person forwards the console to"


def test_variables_that_templates_set_are_settings_that_a_service_reads() -> None:
    templates = "".join(path.read_text() for path in sorted((CHART / "templates").rglob("*.*")))
    settings = {
        name: importlib.import_module(f"{service.package}.settings").__dict__[f"{name.title()}Settings"].model_fields
        for name, service in SERVICES.items()
    }
    readable = {f"EVERLOOP_{field}".upper() for fields in settings.values() for field in fields}
    readable |= {f"EVERLOOP_{name}_{field}".upper() for name, fields in settings.items() for field in fields}

    readable |= {f"{OPERATOR_PREFIX}{field}".upper() for field in OperatorSettings.model_fields}

    named = set(re.findall(r"EVERLOOP_[A-Z_]+[A-Z]", templates))

    assert named - readable == {"EVERLOOP_ACLS_USER_PREFIX", "EVERLOOP_ACLS_SOURCES", "EVERLOOP_TOKEN_FILE"} - readable


def test_the_schema_refuses_a_value_or_a_setting_that_nothing_reads() -> None:
    schema = json.loads(text("values.schema.json"))

    open_objects = [at for at, part in _objects(schema) if "properties" in part and part.get("additionalProperties")]

    assert open_objects == []
    assert set(values()) <= set(schema["properties"])
    settings = schema["properties"]["services"]["properties"]["serving"]["properties"]["settings"]["properties"]
    assert "SPOOL_BYTES" in settings
    assert not {"TOKEN", "DATA", "MLFLOW_MIRROR_TOKEN", "KAFKA_BOOTSTRAP"} & set(settings)


def _objects(schema: Any, at: str = "") -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(schema, dict):
        return []
    below = [found for name, part in schema.items() for found in _objects(part, f"{at}/{name}")]
    return [(at, schema), *below]


def test_files_of_values_are_of_the_schema() -> None:
    schema = jsonschema.Draft7Validator(json.loads(text("values.schema.json")))
    files = [
        *CHART.glob("values*.yaml"),
        *(Path(__file__).parent).glob("values/*.yaml"),
        Path(__file__).parent / "values.yaml",
    ]

    for file in files:
        schema.validate(yaml.safe_load(file.read_text()))

    assert len(files) >= 6
    with pytest.raises(jsonschema.ValidationError, match="partition'"):
        schema.validate({"partition": 4})


def test_no_value_is_a_secret() -> None:
    names = re.findall(r"^\s*([A-Za-z]+):", text("values.yaml"), re.MULTILINE)

    assert not [name for name in names if re.search("password$|token$", name, re.IGNORECASE)]


def test_every_version_is_the_project_s() -> None:
    chart = yaml.safe_load(text("Chart.yaml"))
    [version] = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)

    assert (chart["version"], chart["appVersion"]) == (version, version)


@pytest.mark.parametrize("service", SERVICES)
def test_images_are_those_that_the_workflow_builds(service: str) -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/images.yml").read_text())
    built = workflow["jobs"]["build"]["strategy"]["matrix"]["service"]

    assert {service, "acls", "operator"} <= set(built)
    assert values()["image"]["registry"] == "ghcr.io/everloop/everloop"
