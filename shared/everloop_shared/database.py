"""A service's own database: async SQLAlchemy, SQLite in write-ahead mode or PostgreSQL, migrated at the start."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from alembic import command, context
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, MetaData, event
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from everloop_shared import postgresql, sqlite
from everloop_shared.errors import Misconfigured
from everloop_shared.file_lock import hold_file_lock

log = logging.getLogger(__name__)
READ_ONLY = "everloop_read_only"
WAIT_FOR_DATABASE_S = 30.0
RETRY_AFTER_S = 0.5
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",  # survives kill -9; a power cut may undo the last commits, which Kafka replays
    "PRAGMA foreign_keys=ON",
)


def sqlite_url(file: Path) -> str:
    """The URL of a SQLite file."""
    return f"{sqlite.DRIVER}:///{file}"


class Database:
    """A database and its connections; a resource of a Service, which opens it at the start and closes it at the end.

    On entering, `migrations` (an Alembic script folder) brings the tables up to date; `metadata` creates what is
    missing, for tests and projections that can be rebuilt. On PostgreSQL the tables are in `schema`, so that services
    can share a database, and a server that does not answer yet is waited for. On both there is one writer at a time:
    a transaction that may write waits for the others when it begins (decision 0081). Raises Misconfigured when the
    database cannot be opened.
    """

    def __init__(
        self, url: str, migrations: Path | None = None, metadata: MetaData | None = None, schema: str = "public"
    ) -> None:
        self.url = postgresql.parse(url)
        self.schema = schema
        self._migrations = migrations
        self._metadata = metadata
        if self._sqlite:
            self.engine = create_async_engine(self.url)
            _configure_sqlite(self.engine.sync_engine)
            self._reading = self.engine.execution_options(**{READ_ONLY: True})
        else:
            self.engine = create_async_engine(
                self.url, pool_pre_ping=True, connect_args=postgresql.connect_args(self.url, schema)
            )
            _configure_postgresql(self.engine.sync_engine, postgresql.lock(schema, "write"))
            self._reading = self.engine.execution_options(**{READ_ONLY: True}, **postgresql.SNAPSHOT)

    @property
    def _sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection on one consistent snapshot, concurrent with the writer; its changes are not stored.

        Raises Unavailable while the database is away.
        """
        try:
            async with self._reading.connect() as connection:
                yield connection
        except SQLAlchemyError as e:
            postgresql.raise_if_away(e)
            raise

    def alone(self, what: str) -> AbstractAsyncContextManager[None]:
        """A block that no other process on this database runs at the same time; writers are not blocked.

        Waits at most 10 s for the others, then raises Unavailable, as while the database is away. The block must take
        well under a minute: PostgreSQL ends a session that idles longer, so that a dead process blocks no other.
        """
        if self._sqlite:
            return hold_file_lock(Path(f"{self.url.database}.{what}.lock") if self.url.database else None)
        return self._alone(postgresql.lock(self.schema, what))

    @asynccontextmanager
    async def _alone(self, key: int) -> AsyncIterator[None]:
        engine = self.engine.execution_options(**{READ_ONLY: True})
        try:
            async with engine.connect() as connection:
                await connection.exec_driver_sql(postgresql.TAKE.format(key))
                yield
        except SQLAlchemyError as e:
            postgresql.raise_if_away(e)
            raise

    async def __aenter__(self) -> Self:
        deadline = time.monotonic() + WAIT_FOR_DATABASE_S
        while True:
            try:
                await self._open()
                return self
            except (DBAPIError, CommandError, OSError) as e:
                await self.engine.dispose()
                where = self.url.render_as_string(hide_password=True)
                reason = getattr(e, "orig", None) or e
                if self._sqlite or not isinstance(e, OperationalError) or time.monotonic() > deadline:
                    raise Misconfigured(f"the database {where} cannot be opened: {reason}") from e
                log.warning("waiting for the database", extra={"url": where, "reason": str(reason)})
            await asyncio.sleep(RETRY_AFTER_S)

    async def _open(self) -> None:
        if self._sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        if self._migrations:
            await migrate(self, self._migrations)
        async with self.engine.begin() as connection:
            if self._metadata is not None:
                await connection.run_sync(self._make_schema)
                await connection.run_sync(self._metadata.create_all)

    def _make_schema(self, connection: Connection) -> None:
        if not self._sqlite:
            postgresql.make_schema(connection, self.schema)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self.engine.dispose())


async def migrate(database: Database, migrations: Path) -> None:
    """Bring the tables up to the newest revision in an Alembic script folder, in one transaction."""
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))

    def upgrade(connection: Connection) -> None:
        database._make_schema(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async with database.engine.begin() as connection:
        await connection.run_sync(upgrade)


def run_migrations(metadata: MetaData) -> None:
    """For a service's `migrations/env.py`: run the migrations on the connection that `migrate` opened."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        render_as_batch=True,  # SQLite alters a table by copying it
        transactional_ddl=False,  # the transaction is that of `migrate`
    )
    context.run_migrations()


def _configure_sqlite(engine: Engine) -> None:
    """Begin transactions here, not in the driver: a writer takes the lock at its begin, and so never deadlocks."""

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


def _configure_postgresql(engine: Engine, key: int) -> None:
    """One writer at a time, as in SQLite: no deadlocks, and later commits have higher numbers."""

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        if not connection.get_execution_options().get(READ_ONLY):
            connection.exec_driver_sql(postgresql.TAKE.format(key))
