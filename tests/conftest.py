"""Fixtures every test may ask for: one real Kafka broker for the session, started when the first test asks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from tests.databases import Databases, Postgres, Sqlite, postgres_server, tests_on
from tests.object_stores import ObjectStore, gcs_server, s3_server

from everloop.local.kafka import Broker, start_broker

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # tests that run onnxruntime by itself write no files and report nothing

# A busy machine draws examples slowly, whatever the code under test does.
settings.register_profile("everloop", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("everloop")

T = TypeVar("T")
FRAMEWORKS = ("sklearn", "skl2onnx", "xgboost", "lightgbm", "onnxmltools", "pyarrow", "mlflow")
"""What tests with the marker `frameworks` import, within the test or a fixture."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `frameworks` where these are not installed; in CI they fail instead."""
    missing = [name for name in FRAMEWORKS if find_spec(name) is None]
    if missing and not os.environ.get("CI"):
        skip = pytest.mark.skip(reason=f"needs {', '.join(missing)}, which is not installed here")
        for item in items:
            if item.get_closest_marker("frameworks"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Yield the session's broker: `.bootstrap`, `.pid`, and `await .kill()`, `.stop()`, `.restart()`.

    It is shared: name topics and groups uniquely, and leave it running.
    """
    folder: Path = tmp_path_factory.mktemp("kafka")
    broker = _run(start_broker(folder))
    try:
        yield broker
    finally:
        _run(broker.stop())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The session's PostgreSQL: `.url(folder)`, `.execute(statement)`, and `.stop()`, `.start()` to be put back."""
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Runs the test on each kind of database: `tests.databases.database_url(folder)` names a fresh one."""
    kind = Sqlite() if request.param == "sqlite" else request.getfixturevalue("postgres")
    with tests_on(kind) as on:
        yield on


@pytest.fixture(scope="session")
def s3_store() -> Iterator[ObjectStore]:
    """The session's S3 server; `.use(monkeypatch)` gives a bucket of it."""
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def gcs_store() -> Iterator[ObjectStore]:
    """The session's server of Google Cloud Storage; `.use(monkeypatch)` gives a bucket of it."""
    with gcs_server() as server:
        yield server


@pytest.fixture(params=["s3", "gcs"])
def object_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """Runs the test on each object store, in a bucket of its own: `.url`; `.relay.turn("away")` and back "up"."""
    store = request.getfixturevalue(f"{request.param}_store").use(monkeypatch)
    try:
        yield store
    finally:
        store.relay.turn("up")


def _run(work: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.new_event_loop()  # not asyncio.run: that would take away the tests' own loop
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


@pytest.fixture(scope="session")
def electricity() -> Path:
    """The real stream that tests and benchmarks play: 45,312 rows of the electricity market."""
    return Path(__file__).parents[1] / "shared/everloop/examples/electricity/electricity.csv.gz"
