"""Fixtures every test may ask for: one real Kafka broker for the session, started when the first test asks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from tests.databases import Databases, Postgres, Sqlite, postgres_server, tests_on

from everloop.local.kafka import Broker, start_broker

# A busy machine draws examples slowly, whatever the code under test does.
settings.register_profile("everloop", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("everloop")

T = TypeVar("T")


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
