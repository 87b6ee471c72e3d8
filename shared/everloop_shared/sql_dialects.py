"""Statements that SQLite and PostgreSQL spell differently."""

from __future__ import annotations

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_into(table: Table, dialect: str) -> sqlite.Insert:
    """SQLite's insert or PostgreSQL's: both know ON CONFLICT, the general one does not."""
    if dialect == "postgresql":
        return postgresql.insert(table)  # type: ignore[return-value]  # the two have the same methods
    return sqlite.insert(table)


def driver_sql(statement: str, dialect: str) -> str:
    """A statement with `?` for each parameter, as the driver of this dialect takes it."""
    return statement.replace("?", "%s") if dialect == "postgresql" else statement
