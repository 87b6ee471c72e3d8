"""The alert rules speak of metrics that exist, and of services by their names."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from typing import Any

import yaml
from prometheus_client import REGISTRY
from tests.compose.stack import ROOT

from everloop_schemas.topology import SERVICES

SUFFIXES = ("", "_total", "_bucket", "_count", "_sum")


def rules() -> list[dict[str, Any]]:
    file = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    return [rule for group in file["groups"] for rule in group["rules"]]


def test_every_metric_of_a_rule_is_declared_with_its_labels() -> None:
    for service in (*SERVICES, "shared"):
        importlib.import_module(f"everloop_{service}.metrics")
    declared = {metric.name + suffix for metric in REGISTRY.collect() for suffix in SUFFIXES}

    used = {name for rule in rules() for name in re.findall(r"\beverloop_\w+", rule["expr"])}

    assert used
    assert used <= declared


def test_every_metric_of_a_dashboard_is_declared() -> None:
    for service in (*SERVICES, "shared"):
        importlib.import_module(f"everloop_{service}.metrics")
    importlib.import_module("everloop_shared.http.answer_time")
    declared = {metric.name + suffix for metric in REGISTRY.collect() for suffix in SUFFIXES}
    files = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
    panels = [panel for file in files for panel in json.loads(file.read_text())["panels"]]

    used = {name for p in panels for one in p["targets"] for name in re.findall(r"\beverloop_\w+", one["expr"])}

    assert len(files) == 3
    assert used <= declared


def test_every_rule_says_how_grave_and_what_it_means() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]


def test_what_an_image_holds_is_part_of_what_the_project_needs() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^\S+==[^\s;]+", (ROOT / f"deploy/{name}.lock").read_text(), re.MULTILINE))

    small = {name for name, service in SERVICES.items() if service.artifacts == "none"}
    for service in (*SERVICES, "acls", "operator"):
        held = pins(f"requirements/{service}")
        assert held
        needed = "requirements" if service in small else "requirements-dev"  # has all extras
        assert held <= pins(needed), f"{service}.lock is not of this lock: make lock"


def test_every_group_of_an_image_names_libraries_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    declared = [*project["project"]["dependencies"], *(line for extra in extras.values() for line in extra)]
    known = {re.split(r"[=<>~;]", line)[0].strip() for line in declared}

    for group in ("service", "database", "models", "batch", "acls", *SERVICES):
        named = [line for line in project["dependency-groups"][group] if isinstance(line, str)]
        assert {re.split(r"[=<>~;]", line)[0].strip() for line in named} <= known, group
