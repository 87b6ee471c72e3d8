"""Metrics, rules, dashboards and alerts on a real Prometheus and a real Alertmanager, beside real services."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integrations.prometheus import (
    DEPLOY,
    ROOT,
    alertmanager,
    get,
    program,
    prometheus,
    promtool,
    query,
    until,
)
from tests.journeys.installation import SPEC, Installation, installed
from tests.monitoring.http_receiver import http_receiver

from everloop.local.ports import free_port
from everloop_schemas.topology import SERVICES

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(400)]
ROWS = 400
WATCHED = """
alerts: [{{alert: always, when: accuracy > 0.01, severity: critical}}]
monitor: {{objectives: {{prediction: {{within: 1m}}, learned: {{within: 1h}}}}, latency_p99: 1s, slices: [period]}}
"""
DASHBOARDS = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
NEVER_YET = re.compile(
    r"open_alerts\) > 0|ALERTS|burn_ratio > 1|everloop_lag_records\) > 0|dead_letters_total|retries_total|lost_alerts"
    r"|candidate_share|kind=\"estimated\"|everloop_http_answer|serving_model_seconds"
)
"""Queries about what need not have happened in a healthy installation; they must be accepted all the same."""


@dataclass(frozen=True)
class Watched:
    """An installation that has a loop with an alert, with the Prometheus and the Alertmanager beside it."""

    installation: Installation
    services: dict[str, str]
    prometheus: str
    alertmanager: str
    hook_port: int


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Everything, for all tests."""
    program("prometheus")
    folder = tmp_path_factory.mktemp("watched")
    (folder / "installation").mkdir()
    with pytest.MonkeyPatch.context() as environment, alertmanager(folder) as manager:
        receivers = folder / "receivers.yml"
        hook_port = free_port()
        receivers.write_text(
            f"receivers: [{{name: am, alertmanager: {{url: '{manager}'}}}}, "
            f"{{name: hook, severity: [critical], webhook: {{url: 'http://127.0.0.1:{hook_port}/'}}}}]"
        )
        environment.setenv("EVERLOOP_MONITORING_RECEIVERS", str(receivers))
        environment.setenv("EVERLOOP_MONITORING_ALERT_GATHER_S", "0")
        environment.setenv("EVERLOOP_MONITORING_ALERTS_EVERY_S", "1")
        with installed(folder / "installation") as installation:
            services = {name: installation.services()[name]["url"] for name in SERVICES}
            with prometheus(folder, services, manager) as url:
                installation.apply("market", SPEC + WATCHED)
                rows = installation.rows(ROOT / "shared/everloop/examples/electricity/electricity.csv.gz", 0, ROWS)
                installation.replay("market", rows)
                installation.counted("market", ROWS)
                observation = {name: 0.5 for name in ("period", "nswprice", "nswdemand", "vicprice", "vicdemand")}
                body = {"data": {**observation, "transfer": 0.4}}
                httpx.post(f"{services['serving']}/v1/loops/market/predict", json=body).raise_for_status()
                yield Watched(installation, services, url, manager, hook_port)


def test_the_configuration_is_valid_and_the_rules_pass_their_own_tests() -> None:
    folder = DEPLOY / "prometheus"

    assert "SUCCESS" in promtool("check", "config", "prometheus.yml", cwd=folder)
    assert "SUCCESS" in promtool("check", "rules", "rules.yml", cwd=folder)
    assert "SUCCESS" in promtool("test", "rules", "rules_test.yml", cwd=folder)


def test_the_metrics_of_every_service_are_as_prometheus_wants_them(watched: Watched) -> None:
    for name, url in watched.services.items():
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            text = answer.read()

        assert b"everloop_" in text, name
        promtool("check", "metrics", text=text)


def test_every_service_is_scraped_and_every_rule_is_evaluated(watched: Watched) -> None:
    def up() -> set[str]:
        return {one["metric"]["job"] for one in query(watched.prometheus, "up == 1")}

    def unhealthy() -> list[str]:
        groups = get(f"{watched.prometheus}/api/v1/rules")["data"]["groups"]
        return [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"]

    assert until(lambda: up() == set(SERVICES)), up()
    assert until(lambda: not unhealthy()), unhealthy()


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda file: file.stem)
def test_every_query_of_a_dashboard_has_an_answer(watched: Watched, dashboard: Path) -> None:
    refused: list[str] = []
    for expression in expressions_of(dashboard):
        asked = expression.replace("$loop", "market").replace("$__rate_interval", "30s")
        may_be_empty = NEVER_YET.search(asked) is not None
        found = until(partial(query, watched.prometheus, asked), 0.1 if may_be_empty else 20)
        if not found and not may_be_empty:
            refused.append(asked)

    assert refused == []


def test_an_alert_reaches_a_receiver_that_was_away_while_monitoring_was_killed(watched: Watched) -> None:
    def monitoring() -> int:
        return int(watched.installation.services()["monitoring"]["pid"])

    def remarks() -> str:
        with urllib.request.urlopen(f"{watched.services['monitoring']}/readyz", timeout=10) as answer:
            return str(answer.read())

    away = until(lambda: "receiver hook is not told of alerts" in remarks())
    before = monitoring()
    os.kill(before, signal.SIGKILL)
    restarted = until(lambda: monitoring() != before)
    with http_receiver(watched.hook_port) as receiver:
        told = until(lambda: receiver.received, 120)

    assert (away, restarted) == (True, True)
    assert [one["alert"] for one in told[0].json["data"]["alerts"]] == ["rule.always"]


def test_a_loops_alert_reaches_alertmanager_and_ends_there_with_its_rule(watched: Watched) -> None:
    def alert() -> Any:
        path = "/api/v2/alerts?filter=alertname=EverloopRule&filter=severity=critical"
        return next(iter(get(watched.alertmanager + path) or []), None)

    raised = until(alert)
    watched.installation.apply("market", SPEC)
    ended = until(lambda: alert() is None)
    receiver = query(watched.prometheus, 'everloop_monitoring_receiver_up{receiver="am"}')

    assert raised["labels"] == {
        "alertname": "EverloopRule", "alert": "rule.always", "kind": "rule", "loop": "market", "severity": "critical",
    }  # fmt: skip
    assert raised["annotations"]["summary"].startswith("market: accuracy is 0.")
    assert raised["annotations"]["doing"]
    assert ended
    assert [one["value"][1] for one in receiver] == ["1"]


def expressions_of(dashboard: Path) -> list[str]:
    """Every query of a dashboard, of its panels and variables."""
    read = json.loads(dashboard.read_text())
    expressions = [target["expr"] for panel in read["panels"] for target in panel["targets"]]
    for variable in read["templating"]["list"]:
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
        expressions.append(f"count by ({label}) ({metric})")
    return expressions
