"""The migrations make the tables that the code declares, and take them away again."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect
from tests.databases import database_url

from everloop_monitoring.app import MIGRATIONS
from everloop_monitoring.tables import metadata
from everloop_shared.database import Database


async def test_the_migrations_make_the_tables_of_the_code(tmp_path: Path, databases: object) -> None:
    async with (
        Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database,
        database.engine.begin() as connection,
    ):
        differences = await connection.run_sync(lambda c: compare_metadata(MigrationContext.configure(c), metadata))

    assert differences == []


async def test_going_back_leaves_nothing_and_going_forth_makes_it_again(tmp_path: Path, databases: object) -> None:
    def step(connection: Connection, target: str) -> list[str]:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        (command.downgrade if target == "base" else command.upgrade)(config, target)
        return inspect(connection).get_table_names()

    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        async with database.engine.begin() as connection:
            gone = await connection.run_sync(step, "base")
        async with database.engine.begin() as connection:
            back = await connection.run_sync(step, "head")

    assert gone == ["alembic_version"]
    assert set(metadata.tables) <= set(back)
