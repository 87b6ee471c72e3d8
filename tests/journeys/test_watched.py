"""The demo's loop with everything that watches it turned on: a sensor fails, and people are told of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.journeys.conftest import WATCHED_LOOP as LOOP
from tests.journeys.conftest import Pager
from tests.journeys.installation import FIELDS, Installation, counts, until
from tests.monitoring.http_receiver import Received

from everloop import Everloop
from everloop.demo.stream import DemoStream, read_market

pytestmark = [pytest.mark.journey, pytest.mark.timeout(200)]
CHUNK = 100
REFERENCE, BROKEN = 1300, 400
ROWS = 4000
SENSOR = "nswdemand"
STUCK_AT = 2.0  # the loop's file expects 1 at most
RULE = "rule.not-perfect"
EXPECTED = f"expectation.{SENSOR}.between"


def spec_of(example: Path) -> str:
    """The demo's loop, with a rule and groups that are compared.

    It has one model: another one that wins begins another reference for drift, at a time that is not the test's.
    """
    spec = yaml.safe_load((example / "loop.yaml").read_text())
    spec["models"] = spec["models"][1:]
    spec |= {
        "loop": LOOP,
        "alerts": [{"alert": "not-perfect", "when": "accuracy < 0.999", "for": "100 outcomes"}],
    }
    spec["monitor"]["fairness"] = ["period"]
    return yaml.safe_dump(spec).replace("{", "{{").replace("}", "}}")


@dataclass
class Market:
    """The demo's stream, row by row; `played` is how many there were."""

    installation: Installation
    client: Everloop
    rows: Iterator[tuple[dict[str, Any], dict[str, Any]]]
    played: int = 0

    def play(self, n: int, stuck: float | None = None) -> None:
        """Play further rows with their labels; the sensor may be stuck at a value."""
        events, labels = zip(*islice(self.rows, n), strict=True)
        for event in events:
            if stuck is not None:
                event["data"][SENSOR] = stuck
        self.client.publish(LOOP, list(events))
        self.client.label(LOOP, list(labels))
        self.played += n

    def settle(self) -> None:
        """Wait until all that was played is counted; fails at the deadline."""
        assert until(lambda: counts(self._status()) == (self.played,) * 3, 60), (self.played, self._status())

    def play_calmly(self, n: int) -> None:
        """Play rows as they are, in chunks, each once the one before is counted."""
        for _ in range(n // CHUNK):
            self.play(CHUNK)
            self.settle()

    def learn(self) -> None:
        """Play until a model that was trained is champion."""
        while rollout(self.installation)["champion"] == "0":
            assert self.played < ROWS / 2, rollout(self.installation)
            self.play_calmly(CHUNK)

    def _status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = shown(self.installation, "status")
        except httpx.HTTPError:
            return {}
        return found


@pytest.fixture
def market(installation: Installation, electricity: Path) -> Iterator[Market]:
    """The market's loop, applied."""
    installation.apply(LOOP, spec_of(electricity.parent))
    with Everloop(str(installation.folder)) as client:
        yield Market(installation, client, read_market(electricity, DemoStream(before=ROWS, after=0)))


def test_a_sensor_that_fails_is_told_once_with_what_it_has_changed(
    market: Market, installation: Installation, pager: Pager, tmp_path: Path
) -> None:
    # given: a champion that has learned from a calm market, and a rule that has fired
    market.learn()
    market.play_calmly(REFERENCE)
    calm = market.played
    assert until(lambda: RULE in told(pager), 20)

    # when: a sensor fails, the receiver does not answer, and monitoring is killed
    pager.receiver.open.clear()
    market.play(BROKEN // 2, stuck=STUCK_AT)
    assert until(lambda: EXPECTED in told(pager), 40)
    os.kill(installation.services()["monitoring"]["pid"], signal.SIGKILL)
    market.play(BROKEN // 2, stuck=STUCK_AT)
    pager.receiver.open.set()
    market.settle()
    asked = ask(installation)
    market.played += 1
    market.settle()

    # then: all of it is counted, named, told with a signature, and shown
    check_drift(installation, calm)
    check_pages(installation, asked, market.played)
    check_messages(installation, pager)
    check_commands(installation, tmp_path)


def rollout(installation: Installation) -> Any:
    """What the registry says about who serves."""
    url = installation.services()["registry"]["url"]
    return httpx.get(f"{url}/v1/loops/{LOOP}/rollout").raise_for_status().json()


def ask(installation: Installation) -> str:
    """Ask for a prediction that is explained, and say what happened; its id."""
    urls = {name: entry["url"] for name, entry in installation.services().items() if "url" in entry}
    body = {"id": "asked", "data": dict.fromkeys(FIELDS, 0.5), "explain": True}
    answer = httpx.post(f"{urls['serving']}/v1/loops/{LOOP}/predict", json=body).raise_for_status().json()
    httpx.post(f"{urls['ingest']}/v1/loops/{LOOP}/labels", json={"id": "asked", "label": True}).raise_for_status()
    assert answer["explanation"]
    return str(answer["id"])


def shown(installation: Installation, what: str) -> Any:
    """What an endpoint of monitoring shows."""
    url = installation.services()["monitoring"]["url"]
    return httpx.get(f"{url}/v1/loops/{LOOP}/{what}").raise_for_status().json()


def check_drift(installation: Installation, calm: int) -> None:
    """The sensor and the mean over it are what changed most, since the sensor failed."""
    [drift] = [one for one in shown(installation, "features")["drifts"] if one["kind"] == "data"]
    first, second, *_ = drift["features"]
    made = sorted(event["time"] for event in installation.read("serving.prediction_made.v1", LOOP))
    assert {first["name"], second["name"]} == {SENSOR, "demand_mean_12"}
    assert datetime.fromisoformat(first["since"]) >= datetime.fromisoformat(made[calm - 100])


def check_pages(installation: Installation, asked: str, outcomes: int) -> None:
    """Each endpoint has what the loop's file asks for."""
    quality = shown(installation, "quality")
    slices = [one for one in quality["groups"] if (one["by"], one.get("slice")) == ("slice", "period")]
    assert len(slices) > 1
    assert sum(one["outcomes"] for one in slices) == outcomes
    assert all(one["whole"]["accuracy"] for one in slices)
    [field] = {of["field"] for of in shown(installation, "fairness")["fields"]}
    assert field == "period"
    assert {one["objective"] for one in shown(installation, "objectives")} == {"prediction", "learned", "recovered"}
    open_alerts = {one["alert"]: one["state"] for one in shown(installation, "alerts?state=open")}
    assert (open_alerts[RULE], open_alerts[EXPECTED]) == ("firing", "firing")
    latest = {one["id"]: one for one in shown(installation, "predictions?limit=200")}
    assert latest[asked]["label"] is True
    assert latest[asked]["explanation"]["contributions"].keys() >= {SENSOR}
    assert any(one["anomaly"] is not None for one in latest.values())


def check_messages(installation: Installation, pager: Pager) -> None:
    """Each state of an alert is published once and told once; what was not acknowledged came again as it was."""
    raised = {event["id"]: event for event in installation.read("monitoring.alert_raised.v1", LOOP)}
    states = [(e["data"]["alert"], e["data"]["state"]) for e in raised.values()]
    assert states.count((RULE, "pending")) == states.count((RULE, "firing")) == states.count((EXPECTED, "firing")) == 1
    assert states.index((RULE, "pending")) < states.index((RULE, "firing"))
    messages = {message.headers["webhook-id"]: message for message in pager.receiver.received}
    assert all(is_signed(message, pager) for message in pager.receiver.received)
    assert len(pager.receiver.received) > len(messages), "monitoring was killed while it waited for an answer"
    alerts = [alert["id"] for message in messages.values() for alert in message.json["data"]["alerts"]]
    assert len(alerts) == len(set(alerts))
    assert set(alerts) == {id for id, event in raised.items() if event["data"]["state"] != "pending"}


def check_commands(installation: Installation, folder: Path) -> None:
    """The terminal, the report and the model card tell the same."""
    watched = installation.everloop("watch", LOOP, "--once").stdout
    page = folder / "report.html"
    done = installation.everloop("report", LOOP, "-o", str(page))
    card = installation.everloop("model-card", LOOP, "champion").stdout

    assert done.returncode == 0, done.stderr
    assert "open alerts" in watched
    assert SENSOR in watched
    assert SENSOR in page.read_text()
    assert LOOP in card


def told(pager: Pager) -> set[str]:
    """The alerts that the receiver was told of."""
    return {alert["alert"] for message in pager.receiver.received for alert in message.json["data"]["alerts"]}


def is_signed(message: Received, pager: Pager) -> bool:
    """Whether a message has the signature of the secret (Standard Webhooks)."""
    key = base64.b64decode(pager.secret.read_text().strip().removeprefix("whsec_"))
    headers = message.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + message.body
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return hmac.compare_digest(headers["webhook-signature"], f"v1,{digest}")
