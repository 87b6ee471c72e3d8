"""Journeys through the whole installation: six services as processes on real Kafka, real data, seen from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from base64 import b64encode
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders.otlp import Collector
from tests.builders.personal import bytes_below, found_in
from tests.journeys.installation import FIELDS, SPEC, Installation, counts, until
from tests.journeys.lineage import check_lineage_of_answer, kill_registry_before_an_answer, of_loop
from tests.journeys.traces import ASKED, LABELLED, check_answer_to_drift, check_hidden, check_path_of_request
from tests.monitoring.http_receiver import HttpReceiver
from tests.registry.openlineage_checks import check_events, told

from everloop_schemas.registry import LoopState
from everloop_schemas.training import ModelTrained
from everloop_shared.signing.events import sign_event
from everloop_shared.signing.keys import SigningKey

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]
CALM, TURNED = 1500, 1500
FORGED: tuple[type[Any], type[Any]] = (LoopState, ModelTrained)
EVIL = {"version": "evil-0@1"}
README = Path(__file__).parents[2] / "README.md"


@pytest.mark.promise(6)
def test_a_drift_is_answered_with_a_new_champion_and_the_accuracy_comes_back(
    installation: Installation, electricity: Path, lineage_backend: HttpReceiver, collected: Collector
) -> None:
    installation.apply("market")
    installation.replay("market", installation.rows(electricity, 0, CALM))
    before = installation.counted("market", CALM)

    installation.replay("market", installation.rows(electricity, CALM, CALM + TURNED, turned=True))
    after = installation.counted("market", CALM + TURNED)

    assert counts(before) == (CALM, CALM, CALM)
    assert counts(after) == (CALM + TURNED,) * 3
    assert (before["dead_letters"], after["dead_letters"]) == (0, 0)
    assert before["promotions"] >= 1
    assert after["drifts"] > before["drifts"]
    assert after["promotions"] > before["promotions"]
    assert after["accuracy"]["rolling"] > before["accuracy"]["rolling"] - 0.05
    runs = {e["correlationid"]: e for e in installation.read("training.run_requested.v1", "market")}
    alarms = {e["id"] for e in installation.read("monitoring.drift_detected.v1", "market")}
    decided = installation.read("registry.decided.v1", "market")
    promoted = [e for e in decided if e["type"] == "registry.model_promoted.v1"]
    assert [e["sequence"] for e in decided] == list(range(len(decided)))
    [answer, *_] = [e for e in promoted if runs.get(e.get("correlationid", ""), {}).get("causationid") in alarms]
    check_lineage_of_answer(installation, answer, runs[answer["correlationid"]])
    check_answer_to_drift(collected, runs[answer["correlationid"]]["traceparent"][3:35])
    assert until(lambda: ("rollout", "COMPLETE") in told(of_loop(lineage_backend, "market")), 20)
    check_events(of_loop(lineage_backend, "market"))


def test_the_same_file_again_changes_nothing(installation: Installation, electricity: Path) -> None:
    installation.apply("twice")
    file = installation.rows(electricity, 0, 200)
    installation.replay("twice", file)
    installation.counted("twice", 200)

    installation.replay("twice", file)
    installation.replay("twice", installation.rows(electricity, 200, 201))  # one more row, to know when all has passed

    assert counts(installation.counted("twice", 201)) == (201, 201, 201)


def test_an_answer_by_rest_and_its_label_become_an_outcome_and_no_byte_shows_what_is_personal(
    installation: Installation, collected: Collector
) -> None:
    marked = SPEC.replace("nswdemand: {{type: number}}", "nswdemand: {{type: number, personal: true}}")
    expect = "expect: [{{field: period, between: [0, 1], share: 99%, then: dead_letter}}]\n"
    installation.apply("asked", marked + expect)
    urls = {name: entry["url"] for name, entry in installation.services().items() if "url" in entry}
    seen: list[float | str] = [987654.321, 987654.322, 987654.3215, "knows Anna Karenina"]
    data = dict.fromkeys(FIELDS, 0.5) | {"nswdemand": seen[0]}
    body = {"id": "ask-1", "entity": "anna", "data": data, "explain": True}
    streamed = {"id": "ask-2", "entity": "anna", "data": data | {"nswdemand": seen[1]}}
    refused = {"id": "ask-3", "entity": "anna", "data": data | {"period": 7.0}}
    said = {"id": "ask-2", "correct": False, "comment": seen[3]}

    answer = httpx.post(f"{urls['serving']}/v1/loops/asked/predict", json=body, headers=ASKED)
    until(lambda: installation.status("asked").get("events") == 1, 60)  # two topics have no order between them
    sent = httpx.post(f"{urls['ingest']}/v1/loops/asked/events", json=[streamed, refused])
    label = httpx.post(f"{urls['ingest']}/v1/loops/asked/labels", json={"id": "ask-1", "label": True}, headers=LABELLED)
    feedback = httpx.post(f"{urls['ingest']}/v1/loops/asked/feedback", json=said)

    assert [r.status_code for r in (answer, sent, label, feedback)] == [200, 207, 202, 202]
    assert answer.json()["features"]["nswdemand"] == seen[0]
    assert counts(installation.counted("asked", 2)) == (2, 2, 2)
    outcomes = {e["subject"]: e["data"] for e in installation.read("feature.outcome_observed.v1", "asked")}
    assert outcomes["ask-1"]["label"] is True
    assert outcomes["ask-1"]["prediction"] == answer.json()["prediction"]
    entity = httpx.get(f"{urls['feature']}/v1/loops/asked/entities/anna").json()
    assert entity["features"]["demand_mean_12"] == pytest.approx(seen[2])
    assert len(installation.read("ingest.dead_letter.v1", "asked")) == 1
    assert found_in(bytes_below(installation.folder), seen) == []  # topics, changelogs, state, spool, logs, databases
    check_path_of_request(collected)
    check_hidden(collected, [*seen, "anna", "ask-1"])


def test_what_a_loop_refuses_by_http_is_seen_in_monitoring_and_can_be_repaired(installation: Installation) -> None:
    expect = "expect: [{{field: period, between: [0, 1], share: 99%, then: dead_letter}}]\n"
    installation.apply("picky", SPEC + expect)
    urls = {name: entry["url"] for name, entry in installation.services().items() if "url" in entry}
    rows = [{"id": f"row-{i}", "data": dict.fromkeys(FIELDS, 0.5) | {"period": i % 2 * 2.0}} for i in range(200)]

    answer = httpx.post(f"{urls['ingest']}/v1/loops/picky/events", json=rows)
    until(lambda: any(one["n"] >= 200 for one in _expectations(urls["monitoring"], "picky")), 30)
    [expectation] = _expectations(urls["monitoring"], "picky")
    alerts = httpx.get(f"{urls['monitoring']}/v1/loops/picky/alerts?state=open").json()
    letter = installation.read("ingest.dead_letter.v1", "picky")[0]
    repaired = installation.everloop("letters", "repair", letter["id"], "--set", "data.period=0.5")

    assert (answer.status_code, answer.json()["accepted"]) == (207, 100)
    assert (expectation["n"], expectation["share"], expectation["holds"]) == (200, 0.5, False)
    assert {alert["alert"] for alert in alerts} == {"expectation.period.between", "dead_letter"}
    assert (repaired.returncode, installation.status("picky")["dead_letters"]) == (0, 20)
    assert until(lambda: installation.status("picky")["events"] == 101, 30)


def _expectations(url: str, loop: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{url}/v1/loops/{loop}/features").json()["expectations"]
    return found


def test_a_dead_letter_is_repaired_and_sent_again_as_the_console_does_it(installation: Installation) -> None:
    installation.apply("letters")
    urls = {name: entry["url"] for name, entry in installation.services().items() if "url" in entry}
    for value in (0.5, 0.7):  # the same id with other data
        entry = {"id": "order-1", "data": dict.fromkeys(FIELDS, value)}
        httpx.post(f"{urls['ingest']}/v1/loops/letters/events", json=entry).raise_for_status()
    with httpx.Client(base_url=urls["monitoring"], headers={"origin": urls["monitoring"]}) as console:
        [letter] = until(lambda: console.get("/v1/dead-letters?loop=letters").json()["dead_letters"], 60)
        path = f"/v1/dead-letters/{letter['id']}"
        repaired = {"value": b64encode(console.get(f"{path}/body").content.replace(b"order-1", b"order-2")).decode()}

        foreign = console.post(f"{path}/send", json=repaired, headers={"origin": urls["ingest"]})
        answers = [console.post(f"{path}/send", json=repaired).json() for _ in (1, 2)]

        until(lambda: installation.status("letters").get("predictions") == 2, 60)
        [after] = console.get("/v1/dead-letters?loop=letters").json()["dead_letters"]
    events = installation.read("ingest.event_received.v1", "letters")
    assert (letter["service"], letter["error"], letter["sent"]) == ("feature", "IdTaken", [])
    assert foreign.status_code == 403
    assert [(answer["event"], answer["sent"]) for answer in answers] == [("order-2", True), ("order-2", False)]
    assert sorted((event["id"], event["data"]["fields"]["period"]) for event in events) == [
        ("order-1", 0.5),
        ("order-1", 0.7),
        ("order-2", 0.7),
    ]
    assert installation.status("letters")["predictions"] == 2
    assert [sent["event"] for sent in after["sent"]] == ["order-2"]


def test_a_deleted_loop_leaves_its_log_and_begins_anew_while_others_go_on(
    installation: Installation, electricity: Path
) -> None:
    services = ("ingest", "feature", "serving", "registry", "monitoring")
    urls = {name: installation.services()[name]["url"] for name in services}

    def everywhere(status: int) -> bool:
        return all(httpx.get(f"{url}/v1/loops/gone").status_code == status for url in urls.values())

    installation.apply("gone")
    installation.apply("stays")
    installation.replay("gone", installation.rows(electricity, 0, 400))
    installation.counted("gone", 400)

    deleted = installation.everloop("delete", "gone", "--yes", "--reason", "over")
    assert deleted.returncode == 0, deleted.stderr
    assert until(partial(everywhere, 404), 15)
    installation.replay("stays", installation.rows(electricity, 0, 100))
    installation.counted("stays", 100)
    os.kill(installation.services()["feature"]["pid"], signal.SIGKILL)
    os.kill(installation.services()["training"]["pid"], signal.SIGKILL)
    installation.apply("gone")
    installation.replay("gone", installation.rows(electricity, 0, 100))

    status = installation.counted("gone", 100)
    assert (counts(status), status["dead_letters"], status["champion"]["version"]) == ((100, 100, 100), 0, "0")
    decided = installation.read("registry.decided.v1", "gone")
    assert [e["sequence"] for e in decided] == list(range(len(decided)))
    applied = [e["revision"] for e in decided if e["type"] == "registry.loop_applied.v1"]
    assert applied == [1, 2]
    assert "registry.loop_deleted.v1" in [e["type"] for e in decided]
    runs = installation.read("training.run_requested.v1", "gone")
    starts = [e["data"]["start_offset"] for e in runs if e["revision"] == 2]
    assert starts
    assert min(starts) >= 400, "the new lifetime learns nothing from the previous one"


def test_a_hundred_users_who_say_wrong_start_a_run(installation: Installation, electricity: Path) -> None:
    installation.apply("feedback")
    installation.replay("feedback", installation.rows(electricity, 0, 300))
    before = installation.counted("feedback", 300)
    predicted = installation.read("serving.prediction_made.v1", "feedback")[:120]
    wrong = [{"id": e["subject"], "correct": False} for e in predicted]

    answer = httpx.post(f"{installation.services()['ingest']['url']}/v1/loops/feedback/feedback", json=wrong)

    assert answer.status_code == 202
    assert until(lambda: installation.status("feedback").get("runs", 0) > before["runs"], 30)
    assert counts(installation.status("feedback")) == (300, 300, 300)


def test_a_rollback_is_followed_and_stays_until_resume(installation: Installation) -> None:
    before = installation.status("market")["champion"]["version"]

    done = installation.everloop("rollback", "market", "--reason", "a person looks")

    assert done.returncode == 0, done.stderr
    assert until(lambda: installation.status("market")["champion"]["version"] != before, 20)
    now = installation.status("market")["champion"]["version"]
    url = installation.services()["serving"]["url"] + "/v1/loops/market/predict"
    body = {"data": dict.fromkeys(FIELDS, 0.5)}
    assert until(lambda: httpx.post(url, json=body).json()["version"] == now, 10)
    assert installation.everloop("resume", "market", "--reason", "looked").returncode == 0


def test_what_is_forged_changes_nothing_and_is_told_within_ten_seconds(installation: Installation) -> None:
    stranger, topics = SigningKey.create(), (LoopState.topic.name, ModelTrained.topic.name)
    state, version = (kind.model_validate(installation.read(kind.topic.name, "market")[-1]) for kind in FORGED)
    champion = installation.status("market")["champion"]["version"]
    deposed = state.data.model_copy(update={"sequence": 10**6, "champion": state.data.champion.model_copy(update=EVIL)})
    evil = version.data.model_copy(update={**EVIL, "line": "evil-0", "offset": 1, "reason": "gate"})

    for event in (state.copy_with(data=deposed), version.copy_with(data=evil)):
        installation.write(event.topic.name, "market", event.encode(), sign_event(event, stranger).encode())

    assert until(lambda: {f"signature.{topic}" for topic in topics} <= _open_alerts(installation, "market"), 10)
    url = installation.services()["serving"]["url"] + "/v1/loops/market/predict"
    assert httpx.post(url, json={"data": dict.fromkeys(FIELDS, 0.5)}).json()["version"] == champion
    assert installation.status("market")["champion"]["version"] == champion
    refused = [e["data"] for e in installation.read("registry.dead_letter.v1", "market")]
    assert [e["error"] for e in refused] == ["SignatureRefused"] * 2
    assert not [e for e in installation.read("registry.decided.v1", "market") if e["subject"] == EVIL["version"]]
    verified = installation.everloop("audit", "verify", "market")
    assert "none was changed" in verified.stdout, verified.stderr
    assert verified.stderr.count("a record of registry.loop_state.v1 with decision 1000000 does not count") == 2


def test_what_is_killed_while_it_plays_loses_nothing(
    installation: Installation, electricity: Path, lineage_backend: HttpReceiver
) -> None:
    told_once = kill_registry_before_an_answer(installation, lineage_backend, partial(installation.apply, "storm"))
    rows = 2000
    command = installation.replay_args("storm", installation.rows(electricity, 0, rows), rate=60)
    env = {**os.environ, "EVERLOOP_DATA": str(installation.folder)}

    with subprocess.Popen([sys.executable, "-m", "everloop", *command], env=env, stdout=-3, stderr=-3) as player:
        for name in ("feature", "serving", "ingest", "kafka"):
            assert player.poll() is None, f"the replay rides out the death of what went before {name}"
            pid = installation.services()[name]["pid"]
            os.kill(pid, signal.SIGKILL)
            assert until(partial(_is_back, installation, name, pid), 60), f"{name} comes back"
        assert player.wait(timeout=180) == 0

    assert counts(installation.counted("storm", rows, 120)) == (rows, rows, rows)
    predictions: dict[str, set[str]] = {}
    for event in installation.read("serving.prediction_made.v1", "storm"):
        predictions.setdefault(event["subject"], set()).add(
            str((event["data"]["prediction"], event["data"]["version"]))
        )
    assert len(predictions) == rows
    assert all(len(distinct) == 1 for distinct in predictions.values())
    assert until(lambda: [one.body for one in lineage_backend.received].count(told_once) >= 2, 30)
    check_events(of_loop(lineage_backend, "storm"))


def test_after_down_and_up_everything_is_as_it_was(installation: Installation) -> None:
    before = installation.status("market")

    installation.down()
    installation.up()

    assert until(lambda: counts(installation.status("market")) == counts(before), 60)
    assert installation.status("market")["champion"]["version"] == before["champion"]["version"]


def _open_alerts(installation: Installation, loop: str) -> set[str]:
    return {row["alert"] for row in json.loads(installation.everloop("alerts", loop, "--json").stdout)}


def _is_back(installation: Installation, name: str, killed: int) -> bool:
    return installation.services()[name]["pid"] != killed and _all_ready(installation)


def _all_ready(installation: Installation) -> bool:
    try:
        urls = [entry["url"] for entry in installation.services().values() if "url" in entry]
        return all(httpx.get(f"{url}/readyz").status_code == 200 for url in urls)
    except httpx.TransportError:
        return False


def _block(language: str) -> str:
    """The first code block of a language below "Your first loop"."""
    text = README.read_text().partition("## Your first loop")[2]
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found, f"the README has no {language} block"
    return found[1]


@pytest.mark.timeout(120)
def test_the_first_loop_of_the_readme_works_as_it_is_written(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "churn.yaml").write_text(_block("yaml"))
    env = {**os.environ, "EVERLOOP_DATA": str(installation.folder), "NO_COLOR": "1"}
    commands = [line for line in _block("sh").splitlines() if line]

    for command in commands:
        args = command.replace(".venv/bin/everloop", f"{sys.executable} -m everloop").split()
        done = subprocess.run(args, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    client = subprocess.run([sys.executable, "-c", _block("python")], cwd=tmp_path, env=env, timeout=60, check=False)

    assert len(commands) == 2
    assert client.returncode == 0
    assert until(lambda: installation.status("churn")["outcomes"] == 1, 30)
