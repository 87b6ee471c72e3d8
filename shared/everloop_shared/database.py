"""A service's own database: async SQLAlchemy, SQLite in write-ahead mode by default, migrated at the start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from alembic import command, context
from alembic.config import Config
from sqlalchemy import Connection, Engine, MetaData, event, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from everloop_shared.errors import Misconfigured

READ_ONLY = "everloop_read_only"
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",  # survives kill -9; a power cut may undo the last commits, which Kafka replays
    "PRAGMA busy_timeout=10000",
    "PRAGMA foreign_keys=ON",
)


def sqlite_url(file: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite+aiosqlite:///{file}"


class Database:
    """An engine and its sessions; a resource of a Service, which opens it at the start and closes it at the end.

    On entering, `migrations` (an Alembic script folder) brings the tables up to date; `metadata` creates what is
    missing, for tests and projections that can be thrown away. Raises Misconfigured when it cannot be opened.
    """

    def __init__(self, url: str, migrations: Path | None = None, metadata: MetaData | None = None) -> None:
        self.url = make_url(url)
        self._migrations = migrations
        self._metadata = metadata
        self.engine = create_async_engine(self.url, pool_pre_ping=not self._sqlite)
        if self._sqlite:
            _make_sqlite_behave(self.engine.sync_engine)
        self.writing = async_sessionmaker(self.engine, expire_on_commit=False)
        self._reading = async_sessionmaker(self.engine.execution_options(**{READ_ONLY: True}), expire_on_commit=False)

    @property
    def _sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session on one consistent snapshot, beside whoever is writing; what it changes is not kept."""
        async with self._reading() as session:
            yield session

    async def __aenter__(self) -> Self:
        try:
            if self._sqlite and self.url.database:
                Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
            if self._migrations:
                await migrate(self, self._migrations)
            async with self.engine.begin() as connection:
                if self._metadata is not None:
                    await connection.run_sync(self._metadata.create_all)
        except (OperationalError, OSError) as e:
            await self.engine.dispose()
            where = self.url.render_as_string(hide_password=True)
            raise Misconfigured(f"the database {where} cannot be opened: {getattr(e, 'orig', None) or e}") from e
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self.engine.dispose())


async def migrate(database: Database, migrations: Path) -> None:
    """Bring the tables up to the newest revision in an Alembic script folder, in one transaction."""
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))

    def upgrade(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async with database.engine.begin() as connection:
        await connection.run_sync(upgrade)


def run_migrations(metadata: MetaData) -> None:
    """All that a service's `migrations/env.py` calls: run on the connection that `migrate` opened."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        render_as_batch=True,  # SQLite alters a table by copying it
        transactional_ddl=False,  # the transaction is that of `migrate`
    )
    context.run_migrations()


def _make_sqlite_behave(engine: Engine) -> None:
    """Take transactions over from the driver: a writer takes the lock when it begins, so it never has to give up."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get(READ_ONLY)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
