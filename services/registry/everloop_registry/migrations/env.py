"""Alembic's way in: run on the connection that the service opened."""

from everloop_registry.tables import metadata
from everloop_shared.database import run_migrations

run_migrations(metadata)
