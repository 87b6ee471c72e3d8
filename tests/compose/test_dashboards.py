"""Grafana's files fit together: what its container mounts, provisions and shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.compose.stack import ROOT

GRAFANA = ROOT / "deploy/grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
BUILT_IN = {"timeseries", "stat", "gauge", "bargauge", "table", "state-timeline", "heatmap", "text"}
COLUMNS = 24


def container() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    found: dict[str, Any] = services["grafana"]
    return found


def provisioned(what: str) -> dict[str, Any]:
    [file] = (GRAFANA / "provisioning" / what).glob("*.yml")
    [found] = yaml.safe_load(file.read_text())["providers" if what == "dashboards" else what]
    return dict(found)


def test_the_dashboards_lie_where_grafana_looks_for_them() -> None:
    mounts = dict(reversed(volume.removesuffix(":ro").split(":")) for volume in container()["volumes"])
    folder = provisioned("dashboards")["options"]["path"]
    home = container()["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert mounts["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"
    assert mounts[folder] == "./deploy/grafana/dashboards"
    assert home in {f"{folder}/{file.name}" for file in DASHBOARDS}


def test_grafana_asks_the_prometheus_beside_it() -> None:
    source = provisioned("datasources")

    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert container()["depends_on"] == ["prometheus"]


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_asks_the_provisioned_source_and_needs_no_plugin(file: Path) -> None:
    dashboard, source = json.loads(file.read_text()), provisioned("datasources")
    panels = dashboard["panels"]
    asking = [*panels, *(target for panel in panels for target in panel["targets"]), *dashboard["templating"]["list"]]

    assert {(one["datasource"]["type"], one["datasource"]["uid"]) for one in asking} == {
        (source["type"], source["uid"])
    }
    assert {panel["type"] for panel in panels} <= BUILT_IN
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_no_panel_of_a_dashboard_covers_another(file: Path) -> None:
    cells = [
        (x, y)
        for panel in json.loads(file.read_text())["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert max(x for x, _ in cells) < COLUMNS
    assert len(set(cells)) == len(cells)


def test_dashboards_have_names_of_their_own() -> None:
    read = [json.loads(file.read_text()) for file in DASHBOARDS]

    assert len({one["uid"] for one in read}) == len({one["title"] for one in read}) == len(DASHBOARDS)
