"""Serving without the others, as processes: the broker away under load, and a start with everything else down."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections import defaultdict
from pathlib import Path

import pytest
from tests.serving.processes import DATA, LOOP, PREDICT, clients_of, serving_processes, under_load

from everloop.local.kafka import Broker
from everloop.local.ports import HOST, free_port
from everloop_schemas.serving import ObservationReceived, PredictionMade
from everloop_serving.handlers.routed_requests import worker_of

AWAY_S = float(os.environ.get("EVERLOOP_TEST_AWAY_S", "20"))
"""How long the broker is away; the long form is 300."""
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180 + 2 * AWAY_S)]


async def test_without_the_broker_no_prediction_fails_and_afterwards_each_id_has_one_record_in_order(
    kafka: Broker, tmp_path: Path
) -> None:
    with serving_processes(tmp_path, kafka) as serving:
        await serving.start_with(serving.state(serving.version()))
        async with under_load(serving.port, pause_s=0.1) as load:
            await load.reach(100)
            await kafka.kill()
            await asyncio.sleep(AWAY_S)  # the outage itself
            while_away = len(load.answered)
            await kafka.restart()
            await load.reach(while_away + 100)
        published, deadline = await serving.records(PredictionMade.topic), time.monotonic() + 40
        while {e.subject for events in published.values() for e in events} < load.answered.keys():
            assert time.monotonic() < deadline, serving.log[-2_000:]
            published = await serving.records(PredictionMade.topic)
        observed = await serving.records(ObservationReceived.topic)

    records = [e for events in published.values() for e in events if isinstance(e, PredictionMade)]
    forms = {(e.subject, e.encode()) for e in records}
    assert load.failed == []
    assert load.refused == 0
    assert len(forms) == len(load.answered)  # a batch whose acknowledgement was lost is there twice, byte for byte
    assert {e.id for events in observed.values() for e in events} == load.answered.keys()
    for partition in published.values():
        times, first = defaultdict(list), set()
        for e in partition:
            if isinstance(e, PredictionMade) and e.subject not in first:
                first.add(e.subject)
                times[worker_of(e.loop, e.data.entity, 2)].append(e.time)
        assert all(each == sorted(each) for each in times.values())


async def test_it_answers_from_its_local_copies_when_it_starts_without_broker_registry_and_artifact_store(
    kafka: Broker, tmp_path: Path
) -> None:
    # For fsspec this is no local folder, so that serving keeps copies; it repeats the path below itself.
    store = Path(f"{tmp_path}/store{tmp_path}/store")
    environment = {
        "EVERLOOP_ARTIFACTS": f"dir::file://{tmp_path}/store",
        "EVERLOOP_SERVING_LABELS_SAVE_S": "0.1",
        "EVERLOOP_SERVING_LOAD_WAIT_S": "60",
    }
    with serving_processes(tmp_path, kafka, environment=environment) as serving:
        await serving.start_with(serving.state(serving.version(store_url=store.as_uri())))
        async with clients_of(serving.port, 6) as clients:
            before = [await client.post(PREDICT, {"data": DATA}) for client in clients]
        copies = [tmp_path / "serving", tmp_path / "serving" / "worker-1"]
        deadline = time.monotonic() + 20
        while not all((c / "loops.jsonl").exists() and list((c / "artifacts").glob("*.pkl")) for c in copies):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        serving.signal()
        await serving.exit_status()

        shutil.rmtree(tmp_path / "store")
        serving.bootstrap = f"{HOST}:{free_port()}"
        serving.start()
        await serving.listens()
        async with clients_of(serving.port, 6) as clients:
            deadline = time.monotonic() + 20
            while {code for code, _ in [await client.get(f"/v1/loops/{LOOP}") for client in clients]} != {200}:
                assert time.monotonic() < deadline, serving.log[-3_000:]
            alone = [await client.post(PREDICT, {"data": DATA, "id": f"alone-{n}"}) for n, client in enumerate(clients)]

        serving.signal()
        status = await serving.exit_status()

    assert {(code, answer["version"]) for code, answer in before} == {(200, "logistic-0@1")}
    assert {(code, answer["version"]) for code, answer in alone} == {(200, "logistic-0@1")}
    assert status == 0
