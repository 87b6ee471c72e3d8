"""A whole installation on the memory bus, as a person uses it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.journeys.installation import FIELDS, Installation, counts, until

from everloop.local import processes
from everloop.local.launch import is_ready

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]
ROWS = 300


@pytest.fixture
def installation(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Installation]:
    """An installation on the memory bus, started with further options; nothing of it is left after the test."""
    installation = Installation(tmp_path)
    done = installation.everloop("up", "--bus", "memory", "--ports", "auto", "--detach", *getattr(request, "param", ()))
    assert done.returncode == 0, done.stderr
    assert "gone when it stops" in done.stderr
    yield installation
    installation.everloop("down")
    left = processes.of_installation(tmp_path)
    processes.end_all(left, 1)
    assert not left


@pytest.mark.parametrize("installation", [("--auth",)], indirect=True)
def test_a_loop_learns_and_promotes_without_kafka_for_who_has_the_token(
    installation: Installation, electricity: Path
) -> None:
    installation.apply("look")
    sent = {"authorization": f"Bearer {(installation.folder / 'token').read_text().strip()}"}
    urls = {name: entry["url"] for name, entry in installation.services().items() if "url" in entry}
    before = _ask(urls["serving"], "first", sent)

    replayed = installation.replay("look", installation.rows(electricity, 0, ROWS))
    refused = [httpx.get(f"{url}/docs", trust_env=False).status_code for url in urls.values()]
    answer = _ask(urls["serving"], "ask-1", sent)
    labels = [{"id": name, "label": True} for name in ("first", "ask-1")]
    httpx.post(f"{urls['ingest']}/v1/loops/look/labels", json=labels, trust_env=False, headers=sent).raise_for_status()

    status = installation.counted("look", ROWS + 2)
    assert refused == [401] * len(urls)
    assert (replayed["accepted"], before["version"], "prediction" in answer) == (ROWS, "0", True)
    assert counts(status) == (ROWS + 2,) * 3
    assert status["dead_letters"] == 0
    assert until(lambda: installation.status("look")["promotions"] >= 1, 30)
    _check_reports(installation)
    [applied, *_] = json.loads(installation.everloop("history", "look", "--json").stdout)
    assert (applied["actor"], applied["actor_kind"], applied["actor_source"][:4]) == ("owner", "key", "evl_")
    again = installation.everloop("rebuild", "look", "champion", "--json")
    assert (again.returncode, json.loads(again.stdout)["identical"]) == (0, True), again.stderr
    _check_explained(installation, urls["serving"], sent)
    _check_quotas(installation, urls)
    verified = installation.everloop("audit", "verify", "look", "--json")
    assert (verified.returncode, json.loads(verified.stdout)["loops"][0]["whole"]) == (0, True), verified.stderr
    listed = installation.everloop("audit", "list", "look", "--actor", "owner", "--json")
    entry, *reads = json.loads(listed.stdout)["entries"]
    assert (entry["action"], entry["led_to"], entry["actor_kind"], entry["trace"]) == (
        "loops.apply",
        ["loop_applied"],
        "key",
        applied["traceparent"][3:35],
    )
    assert (entry["address"], entry["answer"]) == ("127.0.0.1", 201)
    assert {read["action"] for read in reads} == {"data.read"}, "the data set of `rebuild`"
    told = installation.everloop("audit", "list", "--refused", "--json")
    refusals = {one["refused"] for one in json.loads(told.stdout)["entries"]}
    assert refusals >= {"not_authenticated", "too_many_runs"}, told.stderr


def _ask(serving: str, prediction_id: str, headers: dict[str, str]) -> dict[str, Any]:
    body = {"id": prediction_id, "data": dict.fromkeys(FIELDS, 0.5)}
    done = httpx.post(f"{serving}/v1/loops/look/predict", json=body, trust_env=False, headers=headers)
    answer: dict[str, Any] = done.raise_for_status().json()
    return answer


def _check_explained(installation: Installation, serving: str, sent: dict[str, str]) -> None:
    """A model's prediction is explained and is the same when it is made again; one of version 0 is said to be that."""

    def explain(prediction_id: str) -> dict[str, Any]:
        done = installation.everloop("explain-decision", prediction_id, "--loop", "look", "--json")
        found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found

    answer = _ask(serving, "ask-2", sent)
    told, baseline = until(lambda: explain("ask-2"), 30), explain("first")
    kinds = [one["decision"] for one in told["origin"]["decisions"]]
    replayed = told["replay"]

    assert replayed["identical"] is True
    assert (replayed["prediction"], replayed["probabilities"]) == (answer["prediction"], answer["probabilities"])
    assert (told["answer"]["certain"], told["answer"]["state"]["champion"]["version"]) == (True, answer["version"])
    assert (told["origin"]["run"]["state"], {"gate_decided", "model_promoted"} <= {*kinds}) == ("trained", True)
    assert (baseline["answer"]["certain"], baseline["origin"], baseline["replay"]["identical"]) == (True, None, None)


def _check_quotas(installation: Installation, urls: dict[str, str]) -> None:
    """What somebody of a team creates and requests counts for the team, and is refused beyond its quota."""
    made = installation.everloop("keys", "create", "ada", "--role", "engineer", "--team", "risk", "--json")
    key = json.loads(made.stdout)
    file = Path(key["file"])
    file.write_text(json.dumps({**json.loads(file.read_text()), "teams": {"risk": {"loops": 1, "runs_per_hour": 1}}}))
    sent = {"authorization": f"Bearer {key['token']}"}

    def send(method: str, url: str, body: Any) -> int:
        return httpx.request(method, url, json=body, trust_env=False, headers=sent, timeout=30).status_code

    def is_known(service: str, quota: str) -> bool:
        got = httpx.get(f"{urls[service]}/v1/quotas", trust_env=False, headers=sent)
        return got.status_code == 200 and got.json()["teams"][0]["quotas"][quota]["allowed"] == 1

    assert until(lambda: is_known("registry", "loops") and is_known("training", "runs_per_hour"), 10)
    spec = json.loads(installation.everloop("history", "look", "--json").stdout)[0]["data"]["spec"]
    apply = [send("PUT", f"{urls['registry']}/v1/loops/{name}", {**spec, "loop": name}) for name in ("a", "b")]
    runs = [send("POST", f"{urls['training']}/v1/loops/look/runs", {"reason": "why not"}) for _ in range(2)]
    shown = json.loads(installation.everloop("quotas", "--json").stdout)

    assert (apply, runs) == ([201, 409], [202, 429])
    assert [shown["risk"][name] for name in ("loops", "runs_per_hour")] == [{"used": 1, "allowed": 1}] * 2
    assert shown["risk"]["searches_per_hour"] == {"used": 0, "allowed": None}
    assert installation.status("a")["team"] == "risk"


def _check_reports(installation: Installation) -> None:
    """The champion's model card and the loop's report say what all services know."""
    card = installation.everloop("model-card", "look", "champion", "--json")
    file = installation.folder / "look.html"
    report = installation.everloop("report", "look", "-o", str(file), "--json")

    assert (card.returncode, report.returncode) == (0, 0), card.stderr + report.stderr
    told = json.loads(card.stdout)
    assert told["training"]["end_offset"] >= 0
    assert told["training"]["run"]["state"]
    assert "model_promoted" in [one["decision"] for one in told["decisions"]]
    assert json.loads(report.stdout)["not_answered"] == []
    assert told["version"] in file.read_text()


def test_lockstep_follows_the_memory_bus(installation: Installation, electricity: Path) -> None:
    installation.apply("look")
    file = str(installation.rows(electricity, 0, 20))

    done = installation.everloop("replay", "look", file, "--label-column", "class", "--lockstep", "--json")

    assert done.returncode == 0, done.stderr
    assert counts(installation.counted("look", 20)) == (20, 20, 20)


def test_a_deleted_loop_is_gone_everywhere_and_begins_anew(installation: Installation, electricity: Path) -> None:
    services = ("ingest", "feature", "serving", "registry", "monitoring")
    urls = {name: installation.services()[name]["url"] for name in services}

    def everywhere(status: int) -> bool:
        return all(httpx.get(f"{url}/v1/loops/look", trust_env=False).status_code == status for url in urls.values())

    installation.apply("look")
    installation.replay("look", installation.rows(electricity, 0, ROWS))
    installation.counted("look", ROWS)
    assert until(lambda: installation.status("look")["promotions"] >= 1, 30)

    deleted = installation.everloop("delete", "look", "--yes", "--reason", "over")
    assert deleted.returncode == 0, deleted.stderr
    assert until(lambda: everywhere(404), 10)
    refused = installation.everloop("publish", "look", "{}", "--json")
    history = installation.everloop("history", "look", "--json")
    installation.apply("look")
    replayed = installation.replay("look", installation.rows(electricity, 0, 40))

    status = installation.counted("look", 40)
    assert (refused.returncode, "was deleted" in refused.stderr) == (1, True)
    assert "registry.loop_deleted.v1" in history.stdout
    assert (replayed["accepted"], counts(status)) == (40, (40, 40, 40))
    assert (status["dead_letters"], status["champion"]["version"]) == (0, "0")


def test_down_leaves_nothing(installation: Installation) -> None:
    listed = installation.services()

    again = installation.everloop("up", "--bus", "memory", "--detach")
    down = installation.everloop("down")

    served = [entry for entry in listed.values() if isinstance(entry, dict) and "url" in entry]
    assert (listed["kafka"], listed["bus"]) == ({"bootstrap": None, "pid": None}, "memory")
    assert len({entry["pid"] for entry in served}) == 1
    assert (again.returncode, "runs already" in again.stderr, down.returncode) == (0, True, 0)
    assert not any(is_ready(entry["url"]) for entry in served)
    assert sorted(p.name for p in installation.folder.iterdir()) == ["logs", "supervisor.lock"]


def test_a_killed_installation_begins_anew(installation: Installation) -> None:
    installation.apply("look")
    os.kill(installation.services()["supervisor"]["pid"], signal.SIGKILL)

    done = installation.everloop("up", "--bus", "memory", "--ports", "auto", "--detach")

    assert done.returncode == 0, done.stderr
    assert json.loads(installation.everloop("status", "--json").stdout) == {}
