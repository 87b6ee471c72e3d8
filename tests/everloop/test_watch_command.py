"""`everloop watch` on the real monitoring: once, as lines, as JSON, and on a terminal's screen."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from tests.builders.events import line_failed, model_promoted
from tests.builders.loops import live_version, loop_spec, loop_state
from tests.everloop.served_services import ServedServices, served
from tests.everloop.test_command_line import run
from tests.monitoring.monitoring_service import MODEL, outcome

from everloop.cli import watching
from everloop.reports.facts import LoopFacts

pytestmark = [pytest.mark.app, pytest.mark.timeout(60)]
HOSTILE = "[red]\x1b[2J<b>\u202e"


@pytest.fixture(autouse=True)
def environment(services: ServedServices, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line finds the services."""
    monkeypatch.setenv("EVERLOOP_DATA", str(services.folder))
    monkeypatch.setenv("COLUMNS", "140")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedServices]:
    """Monitoring, with a loop whose candidate has a quarter of the traffic, and whose line has failed."""
    folder = tmp_path_factory.mktemp("watched")
    with served(folder, "monitoring") as running:
        rollout: dict[str, Any] = {"stage": "canary", "share": 0.25, "candidate": live_version("forest-0@90")}
        running.publish(loop_state(loop_spec(), champion=MODEL, **rollout), model_promoted("logistic-0@30"))
        running.publish(*(outcome(f"e{i}", i % 4 > 0, prediction=True) for i in range(120)))
        running.publish(line_failed("forest-0", reason=HOSTILE))
        data = ("--data", str(folder))
        wait_until(lambda: '"line_failed"' in run("watch", "market", "--once", "--json", *data).stdout)
        yield running


def wait_until(condition: Any) -> None:
    """Return once the condition is true; fails at the deadline."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.02)


def test_once_shows_scores_traffic_alerts_and_decisions(services: ServedServices) -> None:
    done = run("watch", "market", "--once")

    assert done.exit_code == 0, done.output
    for told in (
        "outcomes 12",
        "0.75",
        "no change",
        "forest-0@90 canary 25%",
        "open alerts 1",
        "lately",
        "is champion",
    ):
        assert told in done.stdout
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    assert "[red]\\x1b[2J<b>\\u202e" in done.stdout


def test_json_has_the_status_and_the_parts_that_the_services_answer(services: ServedServices) -> None:
    found = json.loads(run("watch", "market", "--once", "--json").stdout)

    assert found["loop"] == "market"
    assert found["status"]["outcomes"] >= 120
    assert found["series"][-1]["outcomes"] == 100
    assert [one["kind"] for one in found["alerts"]] == ["line_failed"]


def test_a_loop_that_there_is_not_is_said_at_once(services: ServedServices) -> None:
    done = run("watch", "none")

    assert done.exit_code == 1
    assert "none" in done.stderr


def test_without_a_terminal_it_prints_a_line_for_each_change_until_ctrl_c(services: ServedServices) -> None:
    with _watching(services, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        services.publish(*(outcome(f"more-{i}", True) for i in range(5)))
        second = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)

    assert first.startswith("market: 120 outcomes; accuracy 0.75")
    assert "forest-0@90" in first
    assert "market: 12" in second + rest
    assert (process.returncode, errors) == (0, "")


def test_on_a_terminal_ctrl_c_gives_the_screen_back_as_it_was(services: ServedServices) -> None:
    ours, theirs = pty.openpty()
    with _watching(services, stdout=theirs) as process:  # stays open here, or what was drawn last is lost
        drawn = _read_until(ours, "lately")
        process.send_signal(signal.SIGINT)
        drawn += _read_until(ours, "\x1b[?1049l", "\x1b[?25h")
        process.wait(20)
    os.close(theirs)
    os.close(ours)

    assert process.returncode == 0
    assert "\x1b[?1049h" in drawn
    assert "\x1b[?1049l" in drawn
    assert "\x1b[?25h" in drawn
    assert HOSTILE not in drawn


def test_features_with_drift_are_ranked_and_a_regression_is_said_to_want_less() -> None:
    scores = {"served": 2.5, "rolling": 2.0, "no_change": 3.0, "majority": 4.0}
    status = {
        **dict.fromkeys(("events", "predictions", "outcomes", "drifts", "runs", "promotions", "rollbacks"), 0),
        "dead_letters": 2,
        "champion": {"version": "0", "since": "2026-01-01T00:00:00+00:00"},
        "rollout": {"stage": "none", "share": 0.0, "candidate": None},
        "accuracy": scores,
        "metric": {"name": "mae", **scores},
    }
    columns = [
        {"name": name, "kind": "feature", "detector": "wasserstein", "distance": distance, "drifted": drifted}
        for name, distance, drifted in (("age", 0.2, True), ("price", 0.7, True), ("plan", 0.9, False))
    ]
    facts = LoopFacts("rent", status, {"features": {"features": columns, "slices": ["region=South"]}})
    console = Console(width=100, record=True, file=StringIO())

    console.print(watching.screen(facts))

    shown = console.export_text()
    assert "mae, less is better" in shown
    assert shown.index("price") < shown.index("age")
    assert "plan" not in shown
    assert "most of all in region=South" in shown
    assert "drift of age, price most of all in region=South; 2 dead letters" in watching.line(facts)


def _watching(services: ServedServices, stdout: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "everloop", "watch", "market", "--every", "0.1"]
    env = {**os.environ, "EVERLOOP_DATA": str(services.folder), "TERM": "xterm", "COLUMNS": "120", "LINES": "50"}
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=env)


def _read_until(terminal: int, *texts: str) -> str:
    found, deadline = "", time.monotonic() + 20
    while not all(text in found for text in texts):
        readable, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert readable, found[-500:]
        found += os.read(terminal, 65536).decode(errors="replace")
    return found
