"""The migrations make the tables that the code declares, and take them away again."""

from __future__ import annotations

import json
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from tests.databases import database_url

from everloop_monitoring.app import MIGRATIONS
from everloop_monitoring.tables import metadata
from everloop_shared.arithmetic import mean
from everloop_shared.database import Database


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


async def test_the_migrations_make_the_tables_of_the_code(tmp_path: Path, databases: object) -> None:
    async with (
        Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database,
        database.engine.begin() as connection,
    ):
        differences = await connection.run_sync(lambda c: compare_metadata(MigrationContext.configure(c), metadata))

    assert differences == []


async def test_going_back_leaves_nothing_and_going_forth_makes_it_again(tmp_path: Path, databases: object) -> None:
    def step(connection: Connection, target: str) -> list[str]:
        config = _config(connection)
        (command.downgrade if target == "base" else command.upgrade)(config, target)
        return inspect(connection).get_table_names()

    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        async with database.engine.begin() as connection:
            gone = await connection.run_sync(step, "base")
        async with database.engine.begin() as connection:
            back = await connection.run_sync(step, "head")

    assert gone == ["alembic_version"]
    assert set(metadata.tables) <= set(back)


async def test_sums_of_the_version_before_become_exact_and_go_back(tmp_path: Path, databases: object) -> None:
    state = '{"outcomes": 4, "sums": [1.5, 2.0, 0.25], "baselines": {"n": 4, "total": 10.0}}'
    row = "INSERT INTO versions VALUES ('l', 'm@1', 4, 1.5, 4, 0.5, NULL, '', '')"

    def step(connection: Connection, way: str, target: str) -> tuple[float, float, str]:
        getattr(command, way)(_config(connection), target)
        error, served = connection.execute(text("SELECT error, served_error FROM versions")).one()
        return error, served, connection.execute(text("SELECT state FROM works")).scalar_one()

    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        async with database.engine.begin() as connection:
            await connection.run_sync(lambda c: command.downgrade(_config(c), "0001"))
            await connection.execute(text(row))
            await connection.execute(text("INSERT INTO works VALUES ('l', :state)"), {"state": state})
        async with database.engine.begin() as connection:
            error, served, work = await connection.run_sync(step, "upgrade", "0002")
        async with database.engine.begin() as connection:
            back = await connection.run_sync(step, "downgrade", "0001")

    assert (mean(int(error)), mean(int(served))) == (1.5, 0.5)
    assert [mean(n) for n in json.loads(work)["sums"]] == [1.5, 2.0, 0.25]
    assert back[:2] == (1.5, 0.5)
