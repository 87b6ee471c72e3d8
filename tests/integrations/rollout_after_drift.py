"""An installation whose loop is in the middle of a rollout after a drift: the demo's stream, stopped on the way.

A second loop, of loans, has what the demo's has not: groups that are treated differently, and incomes that are not as
expected.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import httpx
from tests.integrations.in_memory import in_memory

from everloop.client import Everloop
from everloop.demo.running import EXAMPLE, LOOP
from everloop.demo.stream import DemoStream, read_market

STREAM = DemoStream(before=2600, after=4000)
ROWS = 20
"""So many rows of the market are sent at once: a step of the rollout is five times as long."""
LOANS = 1000
LOANS_SPEC = """
loop: loans
task: binary
schema: {{income: {{type: number}}, sex: {{type: string, enum: [f, m]}}}}
monitor: {{drift: all, fairness: [sex]}}
expect: [{{field: income, between: [0, 45], share: 0.99}}]
"""
PROCESSED_WITHIN_S = 60.0
ASK_EVERY_S = 0.03


@contextmanager
def rollout_after_drift(folder: Path) -> Iterator[str]:
    """The address of monitoring, in an installation on the memory bus; nothing of it is left at the end."""
    with in_memory(folder) as installation:
        done = installation.everloop("apply", "-f", str(EXAMPLE / "loop.yaml"))
        assert done.returncode == 0, done.stderr
        url = installation.services()["monitoring"]["url"]
        with Everloop(str(folder)) as client, httpx.Client(base_url=url, trust_env=False) as monitoring:
            _play(client, monitoring)
            installation.apply("loans", LOANS_SPEC)
            _play_loans(client, monitoring)
        yield url


def _play(client: Everloop, monitoring: httpx.Client) -> None:
    """Send rows and their labels, in steps that the loop keeps up with, until a rollout that began after the drift."""
    market, sent, drifts = read_market(EXAMPLE / "electricity.csv.gz", STREAM), 0, 0
    while batch := list(islice(market, ROWS)):
        client.publish(LOOP, [event for event, _ in batch])
        client.label(LOOP, [label for _, label in batch])
        sent += len(batch)
        status = _status(monitoring, LOOP, sent)
        if sent <= STREAM.before:
            drifts = status["drifts"]
        elif status["drifts"] > drifts and status["rollout"]["stage"] == "canary":
            _explain(client, next(market)[0]["data"])
            return
    raise AssertionError("no rollout began after the drift")


def _explain(client: Everloop, market: dict[str, Any]) -> None:
    """Ask for a prediction with its explanation."""
    assert client.predict(LOOP, market, id="asked", explain=True).explanation


def _play_loans(client: Everloop, monitoring: httpx.Client) -> None:
    """Send applicants, of whom more men than women with the same income pay back."""
    random, ids = Random(4), [f"loan-{i}" for i in range(LOANS)]
    loans: list[dict[str, Any]] = [{"income": random.gauss(30, 8), "sex": random.choice("fm")} for _ in ids]
    paid = [loan["income"] + 9 * (loan["sex"] == "m") + random.gauss(0, 6) > 34 for loan in loans]
    for start in range(0, LOANS, 5 * ROWS):
        part = slice(start, start + 5 * ROWS)
        client.publish("loans", [{"id": id, "data": loan} for id, loan in zip(ids[part], loans[part], strict=True)])
        client.label("loans", [{"id": id, "label": label} for id, label in zip(ids[part], paid[part], strict=True)])
        _status(monitoring, "loans", min(start + 5 * ROWS, LOANS))


def _status(monitoring: httpx.Client, loop: str, sent: int) -> dict[str, Any]:
    """The status once every row has its outcome."""
    deadline = time.monotonic() + PROCESSED_WITHIN_S
    while True:
        status: dict[str, Any] = monitoring.get(f"/v1/loops/{loop}/status").raise_for_status().json()
        if status["outcomes"] >= sent:
            return status
        assert time.monotonic() < deadline, f"the loop does not keep up: {status}"
        time.sleep(ASK_EVERY_S)
