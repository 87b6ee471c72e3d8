"""What MLflow's clients logged survives the loss of the database, a broker that is away, and foreign records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sql
from tests.builders.events import run_requested
from tests.builders.running import until
from tests.databases import database_url
from tests.registry.registry_harness import apply_file, count_handled, publish, registry, run_to_canary
from tests.registry.test_registry_recovery import Away

from everloop_registry.tables import MIGRATIONS, TRACKING, tracking_positions, versions
from everloop_schemas.tracking import RunLogged
from everloop_shared.database import Database
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.app, pytest.mark.timeout(180), pytest.mark.usefixtures("databases")]
API = "http://localhost/api/2.0/mlflow"
JSON = {"content-type": "application/json"}


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> httpx.Response:
    """A command of an MLflow client."""
    return await client.post(f"{API}{path}", json=body, headers=JSON)


async def log_everything(client: httpx.AsyncClient) -> str:
    """An experiment of one's own with a run, a loop's run with a tag, and notes on a version; the own run's id."""
    lab = (await post(client, "/experiments/create", name="the lab", tags=[{"key": "team", "value": "risk"}])).json()
    created = await post(client, "/runs/create", experiment_id=lab["experiment_id"], run_name="mine", start_time=5)
    run = str(created.json()["run"]["info"]["run_id"])
    metrics = [{"key": "loss", "value": 1 / (n + 1), "timestamp": n, "step": n} for n in range(50)]
    params = [{"key": "depth", "value": "3"}]
    await post(client, "/runs/log-batch", run_id=run, metrics=metrics, params=params)
    await post(client, "/runs/log-batch", run_id=run, metrics=metrics, params=params)  # a retry
    data_set = {"dataset": {"name": "d", "digest": "1", "source_type": "local", "source": "s", "schema": "{}"}}
    await post(client, "/runs/log-inputs", run_id=run, datasets=[data_set])
    await post(client, "/runs/update", run_id=run, status="FINISHED", end_time=9)
    await post(client, "/experiments/update", experiment_id=lab["experiment_id"], new_name="the laboratory")
    await post(client, "/model-versions/set-tag", name="market", version="1", key="checked", value="yes")
    await post(client, "/model-versions/set-tag", name="market", version="1", key="passing", value="thought")
    gone = {"name": "market", "version": "1", "key": "passing"}
    await client.request("DELETE", f"{API}/model-versions/delete-tag", json=gone, headers=JSON)
    return run


async def stored(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All tracking data in the database under a folder, and the numbers of versions."""
    async with Database(database_url(folder), MIGRATIONS, schema="registry") as database, database.reading() as reader:
        tables = [table for table in (*TRACKING, versions) if table is not tracking_positions]
        return {table.name: sorted(map(tuple, await reader.execute(sql.select(table))), key=repr) for table in tables}


def logged(broker: MemoryBroker) -> int:
    """How many events of tracking data were published."""
    return len(broker.events(RunLogged.topic))


async def test_a_database_that_is_gone_holds_the_same_again(tmp_path: Path) -> None:
    broker, first, second = MemoryBroker(), tmp_path / "one", tmp_path / "two"
    async with registry(broker, first) as client:
        await apply_file(client)
        await run_to_canary(broker, first)
        run = await log_everything(client)
        before = (await client.get(f"{API}/runs/get", params={"run_id": run})).json()
    published = logged(broker)

    broker.committed.clear()  # everything is consumed again
    async with registry(broker, second) as client:
        after = (await client.get(f"{API}/runs/get", params={"run_id": run})).json()
        await publish(broker, run_requested("c-0"))
        await until(lambda: logged(broker) > published, 60)
        await until(lambda: count_handled(broker, "training.run_requested.v1") == 2, 60)
    async with registry(broker, first):
        pass

    assert after == before
    assert before["run"]["data"]["params"] == [{"key": "depth", "value": "3"}]
    assert logged(broker) == published + 1
    assert await stored(second) == await stored(first)


async def test_a_command_while_kafka_is_away_is_answered_once_it_is_back_and_done_once(tmp_path: Path) -> None:
    broker = Away()
    async with registry(broker, tmp_path) as client:
        await apply_file(client)
        broker.away = True
        away = await post(client, "/runs/create", experiment_id="0", run_name="once", start_time=5)
        still = await post(client, "/runs/create", experiment_id="0", run_name="once", start_time=5)
        broker.away = False
        back = await post(client, "/runs/create", experiment_id="0", run_name="once", start_time=5)
        found = (await post(client, "/runs/search", experiment_ids=["0"])).json()["runs"]

    answers = [(a.status_code, a.json().get("error_code")) for a in (away, still)]
    assert answers == [(503, "TEMPORARILY_UNAVAILABLE")] * 2
    assert away.headers["retry-after"] == "1"
    assert [r["info"]["run_id"] for r in found] == [back.json()["run"]["info"]["run_id"]]
    assert logged(broker) == 1


async def test_records_that_no_registry_wrote_are_left_out(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path / "one") as client:
        await apply_file(client)
        await log_everything(client)
    record = json.loads(broker.events(RunLogged.topic)[0].encode())
    changes: list[dict[str, Any]] = [
        {"sequence": 10**18},
        {"loop": "nobody", "sequence": 4},
        {"loop": "x" * 1_000, "sequence": 0, "data": {}},
        {"loop": "own", "sequence": 0, "data": {"run": {"id": "r" * 9_000, "experiment": "0"}}},
    ]
    for change in changes:
        forged = {**record, **change}
        await broker.append(RunLogged.topic.name, forged["loop"].encode(), json.dumps(forged).encode())

    async with registry(broker, tmp_path / "two") as client:
        names = [e["name"] for e in (await post(client, "/experiments/search")).json()["experiments"]]
        added = await post(client, "/experiments/create", name="another")

    assert sorted(names) == ["Default", "market", "the laboratory"]
    assert added.status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "part"),
    [
        ("/runs/create", {"experiment_id": "77"}, 404, "RESOURCE_DOES_NOT_EXIST", "id=77"),
        ("/runs/log-metric", {"run_id": "a", "key": "k", "value": "x"}, 400, "INVALID_PARAMETER_VALUE", "value"),
        ("/runs/log-parameter", {"run_id": "a", "key": "k" * 251}, 400, "INVALID_PARAMETER_VALUE", "key"),
        ("/runs/log-batch", {"run_id": "a", "metrics": [{}] * 1_001}, 400, "INVALID_PARAMETER_VALUE", "metrics"),
        ("/runs/search", {"filter": "x" * 6_000}, 400, "INVALID_PARAMETER_VALUE", "filter"),
        ("/runs/search", {"page_token": "nonsense"}, 400, "INVALID_PARAMETER_VALUE", "page_token"),
        ("/runs/set-tag", {"run_id": "../../x", "key": "k"}, 400, "INVALID_PARAMETER_VALUE", "run_id"),
        ("/registered-models/create", {"name": "nowhere"}, 404, "RESOURCE_DOES_NOT_EXIST", "everloop apply"),
    ],
)
async def test_errors_are_mlflows(tmp_path: Path, path: str, body: Any, status: int, code: str, part: str) -> None:
    async with registry(MemoryBroker(), tmp_path) as client:
        answer = await post(client, path, **body)

    assert (answer.status_code, answer.json()["error_code"]) == (status, code)
    assert part in answer.json()["message"]
