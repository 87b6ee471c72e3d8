"""The migrations make the tables that the code declares, and take them down again."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sql
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from tests.databases import database_url

from everloop_registry.tables import MIGRATIONS, metadata
from everloop_shared.database import Database


async def test_up_gives_the_declared_tables_and_down_leaves_nothing(tmp_path: Path, databases: object) -> None:
    def differences(connection: sql.Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    def down(connection: sql.Connection) -> list[str]:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        return [t for t in sql.inspect(connection).get_table_names() if t != "alembic_version"]

    async with Database(database_url(tmp_path), MIGRATIONS, schema="registry") as database:
        async with database.engine.begin() as connection:
            different = await connection.run_sync(differences)
            left = await connection.run_sync(down)

    assert different == []
    assert left == ["sqlite_sequence"] or left == []
