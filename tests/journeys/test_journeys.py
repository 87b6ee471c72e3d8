"""Journeys through the whole house: six services as processes on real Kafka, real data, seen from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx
import pytest
from tests.journeys.house import FIELDS, House, counts, until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]
CALM, TURNED = 1500, 1500
README = Path(__file__).parents[2] / "README.md"


@pytest.mark.promise(6)
def test_a_drift_is_answered_with_a_new_champion_and_the_accuracy_comes_back(house: House, electricity: Path) -> None:
    house.apply("market")
    house.replay("market", house.rows(electricity, 0, CALM))
    before = house.counted("market", CALM)

    house.replay("market", house.rows(electricity, CALM, CALM + TURNED, turned=True))
    after = house.counted("market", CALM + TURNED)

    assert counts(before) == (CALM, CALM, CALM)
    assert counts(after) == (CALM + TURNED,) * 3
    assert (before["dead_letters"], after["dead_letters"]) == (0, 0)
    assert before["promotions"] >= 1
    assert after["drifts"] > before["drifts"]
    assert after["promotions"] > before["promotions"]
    assert after["accuracy"]["rolling"] > before["accuracy"]["rolling"] - 0.05
    runs = {e["correlationid"]: e for e in house.read("training.run_requested.v1", "market")}
    alarms = {e["id"] for e in house.read("monitoring.drift_detected.v1", "market")}
    decided = house.read("registry.decided.v1", "market")
    promoted = [e for e in decided if e["type"] == "registry.model_promoted.v1"]
    assert [e["sequence"] for e in decided] == list(range(len(decided)))
    assert any(runs.get(e.get("correlationid", ""), {}).get("causationid") in alarms for e in promoted)


def test_the_same_file_again_changes_nothing(house: House, electricity: Path) -> None:
    house.apply("twice")
    file = house.rows(electricity, 0, 200)
    house.replay("twice", file)
    house.counted("twice", 200)

    house.replay("twice", file)
    house.replay("twice", house.rows(electricity, 200, 201))  # one more row, to know when all has passed

    assert counts(house.counted("twice", 201)) == (201, 201, 201)


def test_an_answer_by_rest_and_its_label_become_an_outcome(house: House) -> None:
    house.apply("asked")
    urls = {name: entry["url"] for name, entry in house.services().items() if "url" in entry}
    body = {"id": "ask-1", "data": dict.fromkeys(FIELDS, 0.5)}

    answer = httpx.post(f"{urls['serving']}/v1/loops/asked/predict", json=body)
    label = httpx.post(f"{urls['ingest']}/v1/loops/asked/labels", json={"id": "ask-1", "label": True})

    assert (answer.status_code, answer.json()["id"], label.status_code) == (200, "ask-1", 202)
    assert counts(house.counted("asked", 1)) == (1, 1, 1)
    [outcome] = house.read("feature.outcome_observed.v1", "asked")
    assert outcome["data"]["label"] is True
    assert outcome["data"]["prediction"] == answer.json()["prediction"]


def test_a_deleted_loop_leaves_its_log_and_begins_anew_while_others_go_on(house: House, electricity: Path) -> None:
    doors = ("ingest", "feature", "serving", "registry", "monitoring")
    urls = {name: house.services()[name]["url"] for name in doors}

    def everywhere(status: int) -> bool:
        return all(httpx.get(f"{url}/v1/loops/gone").status_code == status for url in urls.values())

    house.apply("gone")
    house.apply("stays")
    house.replay("gone", house.rows(electricity, 0, 400))
    house.counted("gone", 400)

    deleted = house.everloop("delete", "gone", "--yes", "--reason", "over")
    assert deleted.returncode == 0, deleted.stderr
    assert until(partial(everywhere, 404), 15)
    house.replay("stays", house.rows(electricity, 0, 100))
    house.counted("stays", 100)
    os.kill(house.services()["feature"]["pid"], signal.SIGKILL)
    os.kill(house.services()["training"]["pid"], signal.SIGKILL)
    house.apply("gone")
    house.replay("gone", house.rows(electricity, 0, 100))

    status = house.counted("gone", 100)
    assert (counts(status), status["dead_letters"], status["champion"]["version"]) == ((100, 100, 100), 0, "0")
    decided = house.read("registry.decided.v1", "gone")
    assert [e["sequence"] for e in decided] == list(range(len(decided)))
    lives = [e["revision"] for e in decided if e["type"] == "registry.loop_applied.v1"]
    assert lives == [1, 2]
    assert "registry.loop_deleted.v1" in [e["type"] for e in decided]
    starts = [e["data"]["start_offset"] for e in house.read("training.run_requested.v1", "gone") if e["revision"] == 2]
    assert starts
    assert min(starts) >= 400, "the new life learns nothing of the one before"


def test_a_hundred_users_who_say_wrong_start_a_run(house: House, electricity: Path) -> None:
    house.apply("desk")
    house.replay("desk", house.rows(electricity, 0, 300))
    before = house.counted("desk", 300)
    wrong = [{"id": e["subject"], "correct": False} for e in house.read("serving.prediction_made.v1", "desk")[:120]]

    answer = httpx.post(f"{house.services()['ingest']['url']}/v1/loops/desk/feedback", json=wrong)

    assert answer.status_code == 202
    assert until(lambda: house.status("desk").get("runs", 0) > before["runs"], 30)
    assert counts(house.status("desk")) == (300, 300, 300)


def test_a_rollback_is_followed_and_stays_until_resume(house: House) -> None:
    before = house.status("market")["champion"]["version"]

    done = house.everloop("rollback", "market", "--reason", "a person looks")

    assert done.returncode == 0, done.stderr
    assert until(lambda: house.status("market")["champion"]["version"] != before, 20)
    now = house.status("market")["champion"]["version"]
    url = house.services()["serving"]["url"] + "/v1/loops/market/predict"
    body = {"data": dict.fromkeys(FIELDS, 0.5)}
    assert until(lambda: httpx.post(url, json=body).json()["version"] == now, 10)
    assert house.everloop("resume", "market", "--reason", "looked").returncode == 0


def test_what_is_killed_while_it_plays_loses_nothing(house: House, electricity: Path) -> None:
    house.apply("storm")
    rows = 2000
    command = house.replay_args("storm", house.rows(electricity, 0, rows), rate=60)
    env = {**os.environ, "EVERLOOP_DATA": str(house.folder)}

    with subprocess.Popen([sys.executable, "-m", "everloop", *command], env=env, stdout=-3, stderr=-3) as player:
        for name in ("feature", "serving", "ingest", "kafka"):
            assert player.poll() is None, f"the replay rides out the death of what went before {name}"
            pid = house.services()[name]["pid"]
            os.kill(pid, signal.SIGKILL)
            assert until(partial(_is_back, house, name, pid), 60), f"{name} comes back"
        assert player.wait(timeout=180) == 0

    assert counts(house.counted("storm", rows, 120)) == (rows, rows, rows)
    said: dict[str, set[str]] = {}
    for event in house.read("serving.prediction_made.v1", "storm"):
        said.setdefault(event["subject"], set()).add(str((event["data"]["prediction"], event["data"]["version"])))
    assert len(said) == rows
    assert all(len(words) == 1 for words in said.values())


def test_after_down_and_up_everything_is_as_it_was(house: House) -> None:
    before = house.status("market")

    house.down()
    house.up()

    assert until(lambda: counts(house.status("market")) == counts(before), 60)
    assert house.status("market")["champion"]["version"] == before["champion"]["version"]


def _is_back(house: House, name: str, killed: int) -> bool:
    return house.services()[name]["pid"] != killed and _all_ready(house)


def _all_ready(house: House) -> bool:
    try:
        doors = [entry["url"] for entry in house.services().values() if "url" in entry]
        return all(httpx.get(f"{door}/readyz").status_code == 200 for door in doors)
    except httpx.TransportError:
        return False


def _block(language: str) -> str:
    """The first code block of a language below "Your first loop"."""
    text = README.read_text().partition("## Your first loop")[2]
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found, f"the README has no {language} block"
    return found[1]


@pytest.mark.timeout(120)
def test_the_first_loop_of_the_readme_works_as_it_is_written(house: House, tmp_path: Path) -> None:
    (tmp_path / "churn.yaml").write_text(_block("yaml"))
    env = {**os.environ, "EVERLOOP_DATA": str(house.folder), "NO_COLOR": "1"}
    commands = [line for line in _block("sh").splitlines() if line]

    for command in commands:
        words = command.replace(".venv/bin/everloop", f"{sys.executable} -m everloop").split()
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    said = subprocess.run([sys.executable, "-c", _block("python")], cwd=tmp_path, env=env, timeout=60, check=False)

    assert len(commands) == 2
    assert said.returncode == 0
    assert until(lambda: house.status("churn")["outcomes"] == 1, 30)
