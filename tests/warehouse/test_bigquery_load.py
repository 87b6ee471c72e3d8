"""The archive in BigQuery, by an emulator of it: loaded by URI and by upload, once, also when it is killed between."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import Conflict
from tests.builders.events import outcome_observed
from tests.builders.loops import loop_spec
from tests.everloop_archive.archiving import archive, placed
from tests.object_stores import ObjectStore, gcs_server
from tests.warehouse.bigquery_server import PROJECT, bigquery_server

from everloop.warehouse import batches
from everloop.warehouse.connection import connect
from everloop.warehouse.errors import WarehouseFailed
from everloop.warehouse.load import Loader
from everloop_archive.layout import TableName
from everloop_archive.stores import ArchiveStore
from everloop_schemas.serving import Shadow

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(180)]
TABLE = TableName("outcomes", "churn")
NOW = datetime(2026, 11, 27, 23, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that both emulators keep buckets in."""
    return tmp_path_factory.mktemp("buckets")


@pytest.fixture(scope="module")
def servers(buckets: Path) -> Iterator[tuple[str, ObjectStore]]:
    """BigQuery's URL, and Google Cloud Storage."""
    with bigquery_server(buckets) as url, gcs_server(buckets) as gcs:
        yield url, gcs


@pytest.fixture(params=["gs", "file"])
def store(
    request: pytest.FixtureRequest,
    servers: tuple[str, ObjectStore],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> ArchiveStore:
    """An archive on Google Cloud Storage, or on a disk; BigQuery is the emulator."""
    url, gcs = servers
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
    used = gcs.use(monkeypatch)
    return ArchiveStore(used.url if request.param == "gs" else tmp_path.as_uri())


@pytest.fixture
def dataset(request: pytest.FixtureRequest, store: ArchiveStore) -> str:
    """A new data set."""
    name = f"lake_{abs(hash(request.node.name))}"
    connect(PROJECT).create_dataset(name)
    return f"{PROJECT}.{name}"


def outcomes(start: int, stop: int, **more: Any) -> list[Any]:
    """Outcomes of both sides of midnight, so that the offsets of two files interleave."""
    shadows = [Shadow(version="b@1", prediction=False, probabilities={"true": 0.25})]
    return [
        outcome_observed(
            f"p{n}",
            n % 3 == 0,
            loop="churn",
            predicted=NOW + timedelta(hours=n % 2),
            features={"a": n / 2, "b": float(n), **more},
            probabilities={"true": 0.75, "false": 0.25},
            shadows=shadows,
        )
        for n in range(start, stop)
    ]


def query(text: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connect(PROJECT).query(text).result()]


def test_the_archive_becomes_a_table_with_nested_columns_and_a_second_load_adds_only_what_is_new(
    store: ArchiveStore, dataset: str
) -> None:
    archive(store, "churn", placed(outcomes(0, 40)), commits=2)
    loader = Loader(connect(PROJECT), store, dataset)

    first = loader.load(TABLE)
    again = loader.load(TABLE)
    archive(store, "churn", placed(outcomes(40, 50), 40))
    third = loader.load(TABLE)

    assert (first.loaded, again.loaded, third.loaded, third.rows) == (40, 0, 10, 50)
    [row] = query(
        f"SELECT COUNT(*) AS n, COUNT(DISTINCT `offset`) AS offsets, SUM(features.a) AS a, "
        f"COUNTIF(label) AS positive FROM `{first.table}`"
    )
    assert row == {"n": 50, "offsets": 50, "a": sum(n / 2 for n in range(50)), "positive": 17}
    [pairs] = query(f"SELECT SUM(p.value) AS v FROM `{first.table}`, UNNEST(probabilities) AS p WHERE p.key = 'true'")
    assert pairs == {"v": 37.5}


def test_a_table_grows_with_the_schema_of_its_loop(store: ArchiveStore, dataset: str) -> None:
    grown = loop_spec(schema={"a": {"type": "number"}, "b": {"type": "number"}, "c": {"type": "number"}}, models=[])
    archive(store, "churn", placed(outcomes(0, 10)))
    loader = Loader(connect(PROJECT), store, dataset)
    loader.load(TABLE)

    archive(store, "churn", placed(outcomes(10, 20, c=1.0), 10), grown)
    loaded = loader.load(TABLE)

    [features] = [f for f in connect(PROJECT).get_table(loaded.table).schema if f.name == "features"]
    assert [f.name for f in features.fields] == ["a", "b", "c"]
    [row] = query(f"SELECT COUNT(*) AS n, COUNT(features.a) AS a FROM `{loaded.table}`")
    assert row == {"n": 20, "a": 20}  # of c, which the emulator has in the schema only, the values cannot be asked for


def test_a_load_that_was_killed_between_jobs_goes_on_where_it_stopped(
    store: ArchiveStore, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop.warehouse.batches.MAX_FILES", 2)
    archive(store, "churn", placed(outcomes(0, 60)), commits=3)
    killed = Loader(connect(PROJECT), store, dataset)

    def stop(rows: int, of: int) -> None:
        raise KeyboardInterrupt

    killed.on_progress = stop
    with pytest.raises(KeyboardInterrupt):
        killed.load(TABLE)

    assert Loader(connect(PROJECT), store, dataset).load(TABLE).loaded == 40


def with_job_names(client: Any, jobs: dict[str, Any]) -> Any:
    """Refuse a job whose name there is, as BigQuery does; its emulator gives uploads names of its own."""

    def submit_once(submit: Any, source: Any, target: str, *, job_id: str, **options: Any) -> Any:
        if job_id in jobs:
            raise Conflict(f"Already Exists: Job {job_id}")  # type: ignore[no-untyped-call]
        jobs[job_id] = submit(source, target, job_id=job_id, **options)
        return jobs[job_id]

    for method in ("load_table_from_uri", "load_table_from_file"):
        setattr(client, method, partial(submit_once, getattr(client, method)))
    client.get_job = jobs.__getitem__
    return client


def test_a_job_whose_answer_was_lost_is_found_and_not_made_again(
    store: ArchiveStore, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(store, "churn", placed(outcomes(0, 20)))
    jobs: dict[str, Any] = {}
    Loader(with_job_names(connect(PROJECT), jobs), store, dataset).load(TABLE)
    seen = batches.batches
    monkeypatch.setattr("everloop.warehouse.load.batches", lambda found, loaded: seen(found, {}))

    Loader(with_job_names(connect(PROJECT), jobs), store, dataset).load(TABLE)

    assert len(jobs) == 1
    [row] = query(f"SELECT COUNT(*) AS n FROM `{dataset}.outcomes_churn`")
    assert row == {"n": 20}


def test_a_table_with_other_rows_is_refused(store: ArchiveStore, dataset: str) -> None:
    archive(store, "churn", placed(outcomes(0, 20)))
    loader = Loader(connect(PROJECT), store, dataset)
    table = loader.load(TABLE).table
    query(f"DELETE FROM `{table}` WHERE `offset` = 3")

    with pytest.raises(WarehouseFailed, match="delete the table"):
        loader.load(TABLE)


def test_the_command_loads_and_says_what(store: ArchiveStore, dataset: str) -> None:
    archive(store, "churn", placed(outcomes(0, 20)))
    command = [sys.executable, "-m", "everloop", "archive", "load", "--bigquery", dataset, "--archive", store.url]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
    assert "outcomes_churn: 20 rows loaded, 20 in all" in done.stdout
