"""PostgreSQL specifics: a schema per service, one writer, and which errors are temporary."""

from __future__ import annotations

from hashlib import blake2b
from importlib.util import find_spec
from typing import Any

from sqlalchemy import URL, Connection, make_url, text
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, InterfaceError, OperationalError, TimeoutError
from sqlalchemy.schema import CreateSchema

from everloop_shared import sqlite
from everloop_shared.errors import InputRejected, Misconfigured, Unavailable

DRIVER = "postgresql+psycopg"
SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
TAKE = "SELECT pg_advisory_xact_lock({})"
SESSION = {
    "lock_timeout": "10s",  # as long as SQLite's busy_timeout
    "idle_in_transaction_session_timeout": "60s",  # a stopped or dead process holds its lock no longer
}
CLIENT = {"connect_timeout": 5, "keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}
TEMPORARY_SQLSTATES = {"25006", "25P03"}
"""Read-only after a failover; ended for idling in a transaction."""


def parse(url: str) -> URL:
    """The URL, with our driver where it names PostgreSQL without one. Raises Misconfigured, without the URL in it."""
    try:
        parsed = make_url(url)
    except ArgumentError as e:
        form = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
        raise Misconfigured(f"a DATABASE_URL is no URL of a database; it looks like {form}") from e
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername=DRIVER)
    if parsed.drivername in ("sqlite", "sqlite+aiosqlite"):  # the latter is the driver of earlier releases
        parsed = parsed.set(drivername=sqlite.DRIVER)
    if parsed.drivername not in (DRIVER, sqlite.DRIVER):
        raise Misconfigured(
            f"a DATABASE_URL begins with {parsed.drivername}://; postgresql:// and sqlite:// are supported"
        )
    if parsed.drivername == DRIVER and find_spec("psycopg") is None:
        raise Misconfigured("a DATABASE_URL of PostgreSQL needs its driver: pip install 'everloop[all]'")
    return parsed


def connect_args(url: URL, schema: str) -> dict[str, Any]:
    """The arguments of libpq beside the URL; options of the URL itself take precedence."""
    ours = " ".join(f"-c {name}={value}" for name, value in {"search_path": schema, **SESSION}.items())
    theirs = url.query.get("options", "")
    options = f"{ours} {theirs if isinstance(theirs, str) else ' '.join(theirs)}".strip()
    return {name: value for name, value in CLIENT.items() if name not in url.query} | {"options": options}


def lock(schema: str, what: str) -> int:
    """The number of an advisory lock; such locks are per database, so the schema is part of it."""
    return int.from_bytes(blake2b(f"everloop/{schema}/{what}".encode(), digest_size=8).digest(), signed=True)


def make_schema(connection: Connection, schema: str) -> None:
    """Create a service's schema where it is missing; with an existing one the right to create schemas is not needed."""
    there = connection.scalar(text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": schema})
    if there is None:
        connection.execute(CreateSchema(schema))


def is_refused(error: BaseException) -> bool:
    """Whether an error means that a value can never be stored, because it does not fit its column."""
    if not isinstance(error, DBAPIError):
        return False
    permanent = isinstance(error, DataError) or str(getattr(error.orig, "sqlstate", None) or "").startswith("22")
    return permanent or isinstance(getattr(error.orig, "__cause__", None), ValueError)  # before the value is sent


def is_away(error: BaseException) -> bool:
    """Whether a database error is temporary: locked, full, away, or no connection free."""
    if isinstance(error, OperationalError | InterfaceError | TimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in TEMPORARY_SQLSTATES


def raise_if_away(error: BaseException, what: str = "the database") -> None:
    """Raise Unavailable for a database that is locked, full or away, and InputRejected for a value it cannot store."""
    reason = getattr(error, "orig", None) or error
    if is_refused(error):
        raise InputRejected(f"{what} cannot store a value: {reason}") from error
    if is_away(error):
        raise Unavailable(f"{what} is unavailable: {reason}") from error
