"""The mirror on a real MLflow server: what appears there, once, and what happens while the server is away."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sql
from prometheus_client import REGISTRY
from tests.builders.running import until
from tests.databases import database_url
from tests.registry.mlflow_api import ENVIRONMENT, MlflowHarness, imported_mlflow, mlflow_registry
from tests.registry.registry_harness import apply_file, run_to_canary

from everloop.local.ports import HOST, free_port
from everloop_registry import tables
from everloop_shared.database import Database
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(400)]
START_S = 180.0
WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""The server starts seven processes for jobs, which nothing here asks for."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real MLflow server, which proxies artifacts."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    places = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *places],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, **ENVIRONMENT, **WITHOUT_JOBS},
            process_group=0,
        )
    url = f"http://{HOST}:{port}"
    try:
        asyncio.run(until(lambda: _answers(url), within_s=START_S))
        yield url
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.HTTPError:
        return False


@asynccontextmanager
async def mirrored(server: str, folder: Path, broker: MemoryBroker, **settings: Any) -> AsyncIterator[MlflowHarness]:
    """A registry that mirrors to a server."""
    async with mlflow_registry(broker, folder, mlflow_mirror=server, **settings) as made:
        yield made


def lag() -> float:
    """The records that are not on the server yet, by the metric."""
    return REGISTRY.get_sample_value("everloop_registry_mirror_lag_records") or 0.0


async def test_versions_aliases_and_runs_appear_on_the_companys_server_once(server: str, tmp_path: Path) -> None:
    client, broker = imported_mlflow().MlflowClient(server, server), MemoryBroker()

    async with mirrored(server, tmp_path, broker) as registry:
        await apply_file(registry.http)
        await run_to_canary(registry.broker, tmp_path)
        aliases = {"champion", "challenger", "candidate"}
        await until(lambda: set(_aliases(client)) == aliases, within_s=120)
    champion = client.get_model_version_by_alias("market", "champion")
    challenger = client.get_model_version_by_alias("market", "challenger")
    run = client.get_run(champion.run_id)
    files = {f.path for f in client.list_artifacts(run.info.run_id, "versions/1")}

    assert (champion.tags["everloop.version"], challenger.tags["everloop.version"]) == ("a-0@200", "b-0@400")
    assert client.get_experiment(run.info.experiment_id).name == "market"
    assert run.data.tags["everloop.run"]
    assert {"versions/1/MLmodel", "versions/1/model.pkl"} <= files

    await _lose_positions(tmp_path)
    async with mirrored(server, tmp_path, broker) as registry:  # all of it once more
        await until(lambda: lag() > 0, within_s=60)
        await until(lambda: lag() == 0, within_s=120)

    assert len(client.search_model_versions("name = 'market'")) == 2
    assert len(client.search_runs([run.info.experiment_id])) == 2
    assert set(_aliases(client)) == aliases


async def test_a_server_that_is_away_holds_nothing_up_and_gets_all_of_it_later(
    server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()

    async with mirrored(f"http://{HOST}:{port}", tmp_path, MemoryBroker()) as registry:
        await registry.call("create_experiment", "later")
        await until(lambda: any("is behind" in r.message for r in caplog.records))
        applied = await apply_file(registry.http)
        behind = lag()
        async with await asyncio.start_server(lambda r, w: _forward(r, w, server), HOST, port):
            await until(lambda: _experiment(server, "later"), within_s=120)

    assert (applied.status_code, behind > 0) == (201, True)
    [first, *_] = [r.__dict__["reason"] for r in caplog.records if "is behind" in r.message]
    assert first.startswith(f"http://{HOST}:{port} cannot be reached")


async def test_an_event_that_the_server_refuses_is_left_out_and_counted(
    server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "everloop_registry_mirror_refused_total"
    refused = REGISTRY.get_sample_value(name) or 0.0

    async with mirrored(server, tmp_path, MemoryBroker()) as registry:
        await registry.call("create_experiment", "odd", tags={"note": "x" * 50_000})
        await registry.call("create_experiment", "fine", tags={"note": "x"})
        await until(lambda: _experiment(server, "fine"), within_s=120)

    assert REGISTRY.get_sample_value(name) == refused + 1
    [record] = [r for r in caplog.records if "refuses an event" in r.message]
    assert "INVALID_PARAMETER_VALUE" in record.__dict__["reason"]


async def test_credentials_are_sent_and_are_in_no_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        seen.extend(line for line in head.splitlines() if line.startswith("authorization"))
        writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(answer, HOST, 0)
    port = listener.sockets[0].getsockname()[1]
    (tmp_path / "token").write_text("hidden-token\n")
    secret = {"mlflow_mirror_token_file": tmp_path / "token"}
    async with listener, mirrored(f"http://{HOST}:{port}", tmp_path, MemoryBroker(), **secret) as registry:
        await registry.call("create_experiment", "lab")
        await until(lambda: any("is behind" in r.message for r in caplog.records))

    assert seen[0] == "authorization: bearer hidden-token"
    told = [r.__dict__["reason"] for r in caplog.records if "is behind" in r.message]
    assert "does not accept the credentials (401); set EVERLOOP_REGISTRY_MLFLOW_MIRROR_TOKEN" in told[0]
    assert "hidden" not in caplog.text


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: str) -> None:
    """Connect a client with the server."""
    to_reader, to_writer = await asyncio.open_connection(HOST, int(server.rpartition(":")[2]))
    await asyncio.gather(_pipe(reader, to_writer), _pipe(to_reader, writer))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


def _aliases(client: Any) -> dict[str, str]:
    try:
        found: dict[str, str] = client.get_registered_model("market").aliases
    except Exception:
        return {}
    return found


def _experiment(server: str, name: str) -> bool:
    return httpx.get(f"{server}/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": name}).is_success


async def _lose_positions(folder: Path) -> None:
    async with Database(database_url(folder), tables.MIGRATIONS, schema="registry") as database:
        async with database.engine.begin() as connection:
            for table in (tables.mirror_positions, tables.mirrored):
                await connection.execute(sql.delete(table))
