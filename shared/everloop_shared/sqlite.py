"""The SQLite driver: statements run on the event loop, commits in a thread, and waiting for a lock blocks nothing.

A statement takes microseconds, while handing it to a thread and its rows back takes a hundred times as long. What may
take long is a commit, which writes to the disk, and waiting for another process's lock.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

from sqlalchemy import URL
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.pool import AsyncAdaptedQueuePool, Pool, StaticPool
from sqlalchemy.util import await_only

T = TypeVar("T")
DRIVER = "sqlite+everloop"
LOCKED_S, RETRY_EVERY_S = 10.0, 0.01


class _Nothing:
    def __await__(self) -> Iterator[Any]:
        return iter(())


NOTHING: Any = _Nothing()


class Cursor(sqlite3.Cursor):
    """A cursor whose statements wait for a lock by pausing their task, and whose rows are read at once."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._rows = deque[Any]()

    def execute(self, statement: str, parameters: Any = ()) -> Self:
        """Execute a statement, for 10 s again while the database is locked: one that met a lock changed nothing."""
        deadline = 0.0
        while True:
            try:
                super().execute(statement, parameters)
                break
            except sqlite3.OperationalError as e:
                deadline = deadline or time.monotonic() + LOCKED_S
                if e.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            await_only(asyncio.sleep(RETRY_EVERY_S))
        self._rows = deque(super().fetchall())
        await_only(NOTHING)  # SQLAlchemy raises where an asynchronous driver waits for nothing at all
        return self

    def executemany(self, statement: str, rows: Any) -> Self:
        """Execute a statement for each row; its transaction has the lock already."""
        super().executemany(statement, rows)
        await_only(NOTHING)
        return self

    def fetchone(self) -> Any:
        """The next row, None where there are no more."""
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next rows."""
        return [self._rows.popleft() for _ in range(min(size or self.arraysize, len(self._rows)))]

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        rows, self._rows = self._rows, deque()
        return list(rows)

    async def _async_soft_close(self) -> None:
        """SQLAlchemy lets go of the statement here and keeps the rows: both is done already."""


class Connection(sqlite3.Connection):
    """A connection that commits in a thread: a checkpoint waits for the disk."""

    def cursor(self, factory: Any = None) -> Any:
        """A cursor that waits for locks."""
        return super().cursor(factory or Cursor)

    def commit(self) -> None:
        """Commit; without an open transaction there is nothing to wait for."""
        if self.in_transaction:
            await_only(_in_thread(super().commit))


async def _in_thread(call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, call)


class SQLiteDialect_everloop(SQLiteDialect_pysqlite):
    """Python's own SQLite, for SQLAlchemy's asynchronous engines."""

    driver = "everloop"
    is_async = True
    has_terminate = True
    supports_statement_cache = True

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        """Connect; locks are waited for by `Cursor`, never within SQLite."""
        return sqlite3.connect(*args, **{**kwargs, "timeout": 0, "check_same_thread": False, "factory": Connection})

    @classmethod
    def get_pool_class(cls, url: URL) -> type[Pool]:
        """Files may have many connections, a database in memory has one."""
        return AsyncAdaptedQueuePool if cls._is_url_file_db(url) else StaticPool

    def do_terminate(self, dbapi_connection: Any) -> None:
        """Close a connection that was not given back."""
        dbapi_connection.close()


registry.register("sqlite.everloop", __name__, SQLiteDialect_everloop.__name__)
