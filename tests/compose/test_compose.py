"""Promises to operators, proven on a real engine: `pytest -m compose` (some minutes the first time)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytest
from tests.compose.stack import ONCE, PROFILE, ROOT, Stack, assert_locked_down

from everloop.local.personal import OPENING
from everloop_schemas.topology import SERVICES

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1200)]

T = TypeVar("T")
ROWS = 2000
LOOP = "electricity"
ALWAYS = "alerts: [{alert: always, when: accuracy > 0.01, severity: critical}]"
SEALS = """
import os, pathlib
from everloop_shared.personal import Vault
vault = Vault(os.environ["EVERLOOP_PERSONAL_KEYS_URL"], pathlib.Path(os.environ["EVERLOOP_PERSONAL_MASTER_KEY"]))
print(vault.unseal_now("probe", "one", vault.seal_now("probe", "one", {"sealed": 1})))
"""
WRITES = "import pathlib; pathlib.Path('/usr/probe').write_text('x')"


def until(what: Callable[[], T], deadline_s: float) -> T:
    """Ask until the answer is true; the last answer, whatever it is, when the deadline has passed."""
    end = time.monotonic() + deadline_s
    while not (got := what()) and time.monotonic() < end:
        time.sleep(0.5)
    return got


def all_healthy(stack: Stack) -> bool:
    return until(lambda: not stack.unhealthy(), 180)


def restarted(stack: Stack, name: str, before: int) -> bool:
    return stack.restarts(name) > before


def counts(stack: Stack) -> list[int]:
    """Distinct ids once they are complete, or after the deadline."""

    def now() -> list[int]:
        status = stack.status(LOOP)
        return [status[name] for name in ("events", "predictions", "outcomes", "dead_letters")] if status else []

    until(lambda: now() == [ROWS, ROWS, ROWS, 0], 90)
    return now()


def raised(stack: Stack) -> list[Any]:
    """The alert of the rule that always holds, as Alertmanager has it."""
    found: list[Any] = stack.get("alertmanager", f"/api/v2/alerts?filter=loop={LOOP}&filter=alert=rule.always")
    return [one for one in found if one["labels"]["severity"] == "critical"]


@pytest.fixture(scope="module")
def replayed(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The stack after `everloop apply` and `everloop replay` of the first rows; one rule of the loop always holds."""
    spec = tmp_path_factory.mktemp("loop") / "loop.yaml"
    spec.write_text((ROOT / "shared/everloop/examples/electricity/loop.yaml").read_text() + ALWAYS)
    stack.everloop("apply", "-f", str(spec))
    file = str(ROOT / "shared/everloop/examples/electricity/electricity.csv.gz")
    labels = ("--label-column", "class", "--label-delay", "20", "--limit", str(ROWS), "--rate", "200")
    summary = stack.everloop("replay", LOOP, file, *labels)
    assert (summary["accepted"], summary["labels"]) == (ROWS, ROWS)
    return stack


def test_what_runs_is_locked_down(stack: Stack) -> None:
    containers = stack.containers()

    assert containers.keys() == {*SERVICES, *stack.images, *ONCE}
    volumes = {m["Name"] for c in containers.values() for m in c["Mounts"] if m["Type"] == "volume"}
    assert all(name.startswith(stack.project) for name in volumes), "a volume without a name is lost on the way"
    for name, container in containers.items():
        host = container["HostConfig"]
        addresses = {bound["HostIp"] for ports in host["PortBindings"].values() for bound in ports}
        assert addresses <= {"127.0.0.1"}, name
        assert host["RestartPolicy"]["Name"] == ("on-failure" if name in ONCE else "unless-stopped"), name
        assert_locked_down(container)
    assert {containers[name]["Config"]["User"] for name in SERVICES} == {"10001:10001"}


def test_personal_values_are_sealed_without_any_setting_by_those_who_may_see_them(stack: Stack) -> None:
    done = {name: stack.execute(name, "python", "-c", SEALS).stdout for name in SERVICES}

    assert {name for name, said in done.items() if said == "{'sealed': 1}\n"} == set(OPENING)


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_holds_one_service_and_no_tools(stack: Stack, name: str) -> None:
    def python(code: str) -> str:
        done = stack.execute(name, "python", "-c", code)
        return done.stdout + done.stderr

    assert "Read-only file system" in python(WRITES)
    assert "ModuleNotFoundError" in python("import pip")
    assert "None None" in python("from shutil import which; print(which('cc'), which('make'))")
    for library, homes in {
        "faust": {"feature"},
        "river": {"training", "registry", "serving"},
        "sqlalchemy": set(SERVICES),  # of the keys of personal fields
        "alembic": {"registry", "monitoring", "training"},
        "typer": set[str](),
    }.items():
        assert ("Error" in python(f"import {library}")) == (name not in homes), library


def test_an_alert_of_a_loop_reaches_alertmanager(replayed: Stack) -> None:
    [alert] = until(lambda: raised(replayed), 60)

    assert (alert["labels"]["alertname"], alert["status"]["state"]) == ("EverloopRule", "active")
    assert alert["annotations"]["summary"].startswith(f"{LOOP}: accuracy is 0.")
    assert alert["annotations"].keys() >= {"evidence", "doing", "runbook"}
    assert alert["generatorURL"] == f"http://127.0.0.1:8006/#{LOOP}"


def test_grafana_has_the_dashboards(replayed: Stack) -> None:
    if PROFILE not in replayed.images:
        pytest.skip("the image of Grafana cannot be had here")
    titles = {json.loads(file.read_text())["title"] for file in (ROOT / "deploy/grafana/dashboards").glob("*.json")}

    found = replayed.get("grafana", "/api/search?type=dash-db")

    assert {one["title"] for one in found} == titles


def test_counts_are_equal_after_every_main_process_was_killed(replayed: Stack) -> None:
    assert counts(replayed) == [ROWS, ROWS, ROWS, 0]
    champion = replayed.status(LOOP)["champion"]

    for name in (*SERVICES, *replayed.images):
        before = replayed.restarts(name)
        replayed.kill(name)
        assert until(partial(restarted, replayed, name, before), 30), f"{name} was not restarted"
        assert all_healthy(replayed), f"after {name}: {replayed.unhealthy()}"

    assert counts(replayed) == [ROWS, ROWS, ROWS, 0]
    assert replayed.status(LOOP)["champion"] == champion


def test_counts_are_equal_after_a_restart_of_everything(replayed: Stack) -> None:
    before = replayed.status(LOOP)

    replayed.compose("restart")

    assert all_healthy(replayed), replayed.unhealthy()
    assert until(lambda: raised(replayed), 90), "Alertmanager has its alerts in memory only"
    assert counts(replayed) == [ROWS, ROWS, ROWS, 0]
    assert replayed.status(LOOP) == before


def test_a_container_made_anew_takes_over_at_once(replayed: Stack) -> None:
    replayed.compose("up", "--detach", "--no-deps", "--force-recreate", *SERVICES)

    assert all_healthy(replayed), replayed.unhealthy()
    assert counts(replayed) == [ROWS, ROWS, ROWS, 0]


def test_prometheus_reaches_everybody_and_has_its_rules(replayed: Stack) -> None:
    def up() -> set[str]:
        targets = replayed.ask("targets")["activeTargets"]
        return {target["labels"]["job"] for target in targets if target["health"] == "up"}

    assert until(lambda: up() == {*SERVICES, "prometheus"}, 60), up()
    [manager] = replayed.ask("alertmanagers")["activeAlertmanagers"]
    assert manager["url"] == "http://alertmanager:9093/api/v2/alerts"
    rules = [rule for group in replayed.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 15
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}, [r["lastError"] for r in rules if "lastError" in r]
    scored = replayed.ask("query?query=everloop_monitoring_score_ratio")["result"]
    assert {series["metric"]["kind"] for series in scored} == {"served", "rolling", "no_change", "majority"}


def test_the_alert_rules_pass_their_own_tests(stack: Stack) -> None:
    inside = ("--workdir", "/etc/prometheus", "--entrypoint", "promtool")
    folder = ("--volume", f"{ROOT}/deploy/prometheus:/etc/prometheus:ro")
    image = stack.containers()["prometheus"]["Config"]["Image"]

    output = stack.run("docker", "run", "--rm", *inside, *folder, image, "test", "rules", "rules_test.yml")

    assert "SUCCESS" in output


def test_down_stops_everything_and_forgets_nothing(replayed: Stack) -> None:
    before = replayed.status(LOOP)

    replayed.make("down")
    assert replayed.containers() == {}
    replayed.make("up")

    assert counts(replayed) == [ROWS, ROWS, ROWS, 0]
    assert replayed.status(LOOP) == before
