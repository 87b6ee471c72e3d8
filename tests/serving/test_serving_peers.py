"""Workers act as one wherever a request arrives: as processes, without a broker."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.builders.personal import bytes_below, found_in, personal_settings
from tests.serving.processes import DATA, LOOP, PREDICT, clients_of, serving_processes

from everloop.local.ports import HOST, free_port
from everloop_schemas.serving import PredictionMade
from everloop_serving.handlers.routed_requests import worker_of

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]
NO_BROKER = f"{HOST}:{free_port()}"


async def test_one_id_gets_one_prediction_at_whichever_worker_it_arrives(tmp_path: Path) -> None:
    with serving_processes(tmp_path, NO_BROKER) as serving:
        serving.store_state(serving.state(serving.version()))
        serving.start()
        await serving.knows_loop()
        async with clients_of(serving.port, 12) as clients:
            body = {"id": "once", "entity": "e", "data": {"price": 0.9, "demand": 0.5}, "explain": True}
            other_price, other_entity = body | {"data": {"price": 0.1, "demand": 0.5}}, body | {"entity": "f"}

            at_once = await asyncio.gather(*(client.post(PREDICT, body) for client in clients))
            again = [await client.post(PREDICT, body) for client in clients]
            refused = [await client.post(PREDICT, wrong) for client in clients for wrong in (other_price, other_entity)]
            looked_up = [await client.get(f"/v1/loops/{LOOP}/predictions/once") for client in clients]
            metrics = (await clients[0].get("/metrics"))[1]
        serving.signal()
        await serving.exit_status()
        stored = [e.subject for e in await serving.stored() if isinstance(e, PredictionMade)]

    assert at_once == again == looked_up == [at_once[0]] * 12
    assert at_once[0][0] == 200
    assert {"price", "demand"} <= set(at_once[0][1]["explanation"]["contributions"])
    assert {(status, body["code"]) for status, body in refused} == {(409, "id_taken")}
    assert stored == ["once"]
    assert metrics.count("# TYPE everloop_serving_spool_records gauge") == 1
    assert metrics.count("\neverloop_serving_spool_records{worker=") == 2


async def test_the_windows_of_an_entity_have_every_observation_at_whichever_worker_it_arrives(tmp_path: Path) -> None:
    count = {"name": "n", "count": "price", "over": "1h"}
    schema, secret = {"price": {"type": "number"}, "demand": {"type": "number", "personal": True}}, 987654.321
    with serving_processes(tmp_path, NO_BROKER, environment=_personal_environment(tmp_path)) as serving:
        serving.store_state(serving.state(schema=schema, features=[{"fields": "all"}, count]))
        serving.start()
        await serving.knows_loop()
        async with clients_of(serving.port, 10) as clients:
            data = {"price": 0.5, "demand": secret}

            counts = {}
            for entity in ("a", "b", "c"):
                bodies = [
                    {"entity": entity, "data": data} | ({"id": f"{entity}{n}"} if n % 2 else {}) for n in range(10)
                ]
                answers = [await client.post(PREDICT, body) for client, body in zip(clients, bodies, strict=True)]
                assert {status for status, _ in answers} == {200}, answers
                counts[entity] = [answer["features"]["n"] for _, answer in answers]
            rows = [{"entity": f"many-{n % 3}", "data": data, "id": f"row-{n}"} for n in range(9)]
            _, listed = await clients[0].post(PREDICT, rows)
            looked_up = [await client.get(f"/v1/loops/{LOOP}/predictions/row-0") for client in clients]

    assert {answer["features"]["demand"] for _, answer in looked_up} == {secret}
    assert {row["features"]["demand"] for row in listed} == {secret}
    assert found_in(bytes_below(tmp_path), [secret]) == []
    assert counts == {entity: [*range(1, 11)] for entity in "abc"}
    assert [row["features"]["n"] for row in listed] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [row["id"] for row in listed] == [row["id"] for row in rows]


def _personal_environment(folder: Path) -> dict[str, str]:
    return {f"EVERLOOP_{name}".upper(): str(value) for name, value in personal_settings(folder).items()}


async def test_a_deadline_is_kept_while_the_worker_of_a_row_is_stuck(tmp_path: Path) -> None:
    count = {"name": "n", "count": "price", "over": "1h"}
    rows = [{"id": f"late-{n}", "entity": f"e{n // 2}", "data": DATA} for n in range(12)]
    owners = [{worker_of(LOOP, f"late-{n}", 2), worker_of(LOOP, f"e{n // 2}", 2)} for n in range(len(rows))]
    expected = [504 if 1 in those else 200 for those in owners]
    with serving_processes(tmp_path, NO_BROKER) as serving:
        serving.store_state(serving.state(features=[{"fields": "all"}, count]))
        serving.start()
        await serving.knows_loop()
        stuck, seconds, answers = serving.worker_processes()[1], list[float](), list[tuple[int, dict[str, str]]]()
        async with clients_of(serving.port, 1) as [client]:
            stuck.suspend()
            try:
                for row in rows:
                    started = time.monotonic()
                    answers.append(await client.post(PREDICT, row, "Timeout-Ms: 200"))
                    seconds.append(time.monotonic() - started)
            finally:
                stuck.resume()
            again = [await client.post(PREDICT, row) for row in rows]

    assert {*expected} == {200, 504}
    assert [status for status, _ in answers] == expected
    assert {answer["code"] for status, answer in answers if status == 504} == {"deadline_exceeded"}
    assert max(seconds) < 3.0, seconds
    assert [(status, answer["id"]) for status, answer in again] == [(200, row["id"]) for row in rows]
    assert sorted(answer["features"]["n"] for _, answer in again) == [1] * 6 + [2] * 6
