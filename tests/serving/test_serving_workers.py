"""Several workers behind one port, as processes on real Kafka: stops, kills and restarts under load."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest
from tests.serving.processes import PREDICT, clients_of, serving_processes, under_load

from everloop.local.kafka import Broker
from everloop_schemas.serving import PredictionMade

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


async def test_sigterm_under_load_fails_no_request(kafka: Broker, tmp_path: Path) -> None:
    with serving_processes(tmp_path, kafka) as serving:
        await serving.start_with(serving.state(serving.version()))
        async with under_load(serving.port) as load:
            await load.reach(500)

            serving.signal(signal.SIGTERM)
            status = await serving.exit_status()

        published = [e.subject for events in (await serving.records(PredictionMade.topic)).values() for e in events]
        left = {e.subject for e in await serving.stored() if isinstance(e, PredictionMade)}

    assert status == 0
    assert load.failed == []
    assert {*published, *left} == load.answered.keys()
    assert len(published) == len(set(published))


async def test_sigterm_of_one_worker_fails_no_request_and_it_comes_back(kafka: Broker, tmp_path: Path) -> None:
    with serving_processes(tmp_path, kafka) as serving:
        await serving.start_with(serving.state(serving.version()))
        async with under_load(serving.port) as load:
            before = serving.worker_processes()
            before[1].send_signal(signal.SIGTERM)
            gone = time.monotonic()
            while before[1] in serving.worker_processes() or len(serving.worker_processes()) < 2:
                assert time.monotonic() < gone + 20
                await asyncio.sleep(0.05)
            await serving.ready()
            answered = len(load.answered)
            await load.reach(answered + 50)

    assert load.failed == []
    assert load.refused == 0


async def test_a_killed_worker_costs_its_requests_in_flight_and_its_spool_is_delivered(
    kafka: Broker, tmp_path: Path
) -> None:
    with serving_processes(tmp_path, kafka) as serving:
        await serving.start_with(serving.state(serving.version()))
        async with under_load(serving.port, clients=8) as load:
            await load.reach(200)
            victim = serving.worker_processes()[1]

            victim.kill()
            killed, answered = time.monotonic(), len(load.answered)
            while victim in serving.worker_processes() or len(serving.worker_processes()) < 2:
                assert time.monotonic() < killed + 20
                await asyncio.sleep(0.05)
            await serving.ready()
            await load.reach(answered + 200)
        answers = list(load.answered.items())[::10]
        async with clients_of(serving.port, len(answers)) as clients:
            again = [await c.post(PREDICT, load.body(id_)) for c, (id_, _) in zip(clients, answers, strict=True)]
        serving.signal(signal.SIGTERM)
        await serving.exit_status()
        records = [e for events in (await serving.records(PredictionMade.topic)).values() for e in events]
        published = {e.subject for e in records}

    assert len(load.failed) <= 8, load.failed  # each client has one request at a time
    assert all("IncompleteRead" in why or "reset" in why for why in load.failed)
    assert load.refused == 0
    # what was acknowledged before the kill, and its place not stored yet, is published again as it was
    assert len({e.encode() for e in records}) == len(published)
    assert load.answered.keys() <= published
    assert again == [(200, answer) for _, answer in answers]
