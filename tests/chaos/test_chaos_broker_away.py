"""The broker is away for a minute: ingest answers 503, serving answers, and every service catches up by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from tests.chaos.faults import FaultInjector
from tests.chaos.findings import Findings
from tests.chaos.installation import Installation
from tests.chaos.journal import Journal
from tests.chaos.load import loaded
from tests.chaos.run import ChaosReport, check, wait_for_rest

from everloop_schemas.topology import SERVICES

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(500)]
AWAY_S = 60.0


@contextmanager
def broker_away(installation: Installation) -> Iterator[None]:
    """The broker is killed, and the supervisor does not start it again before this ends."""
    supervisor, broker = installation.process("supervisor"), installation.process("kafka")
    assert supervisor is not None
    assert broker is not None
    supervisor.suspend()
    try:
        broker.kill()
        yield
    finally:
        supervisor.resume()


async def ask(
    client: httpx.AsyncClient, installation: Installation, endpoint: str, body: dict[str, Any]
) -> httpx.Response:
    service = "ingest" if endpoint == "events" else "serving"
    return await client.post(f"{installation.url(service)}/v1/loops/alpha/{endpoint}", json=body)


async def test_a_minute_without_the_broker_loses_nothing(installation: Installation) -> None:
    journal, restarts = Journal(), {s: installation.listed()[s]["restarts"] for s in SERVICES}
    refused, answered, ready = list[httpx.Response](), list[httpx.Response](), list[httpx.Response]()
    body = {"data": {"x": 0.5, "y": 0.5, "kind": "a"}}

    async with loaded(installation.url, journal), httpx.AsyncClient(timeout=30, trust_env=False) as client:
        await asyncio.sleep(8)  # so that there is load when the broker is killed
        with broker_away(installation):
            end = time.monotonic() + AWAY_S
            while time.monotonic() < end:
                refused.append(await ask(client, installation, "events", body))
                answered.append(await ask(client, installation, "predict", {**body, "entity": "apart"}))
                ready.append(await client.get(f"{installation.url('serving')}/readyz"))
                await asyncio.sleep(1)

    findings = Findings()
    await wait_for_rest(installation, journal, findings)
    for i, answer in enumerate(answered):  # serving made the ids of these
        journal.surprises += [] if answer.status_code == 200 else [f"{i}: {answer.status_code} {answer.text}"]
    log = await check(installation, journal, findings)
    known = {r.event["subject"] for r in log.of("serving.prediction_made.v1", "alpha")}
    found = [f for f in findings.found if f[0] != "every id on the log was sent"]
    assert {r.status_code for r in refused} == {503}
    assert {r.status_code for r in ready} == {200}
    assert all("retry-after" in r.headers for r in refused)
    assert not journal.surprises
    assert {r.json()["id"] for r in answered} <= known
    assert not found, ChaosReport(journal, FaultInjector(installation), findings).text()
    assert {s: installation.listed()[s]["restarts"] for s in SERVICES} == restarts
