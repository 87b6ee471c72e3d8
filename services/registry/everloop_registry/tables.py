"""The registry's tables: decisions as they were published, their fold, and the working state beside it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sql

from everloop_schemas.envelope import utc_time
from everloop_shared.outbox import add_kernel_tables

MIGRATIONS = Path(__file__).parent / "migrations"
LOOP = sql.String(63)

metadata = sql.MetaData()
stored_offsets, outbox = add_kernel_tables(metadata)

decisions = sql.Table(
    "decisions",
    metadata,
    sql.Column("loop", LOOP, primary_key=True),
    sql.Column("sequence", sql.Integer, primary_key=True),
    sql.Column("type", sql.String(64), nullable=False),
    sql.Column("subject", sql.String(256), nullable=False),
    sql.Column("time_us", sql.BigInteger, nullable=False, comment="microseconds since the epoch"),
    sql.Column("wire", sql.LargeBinary, nullable=False, comment="the record's bytes, which the next prevhash hashes"),
    sql.Index("decisions_by_subject", "loop", "subject"),
    sql.Index("decisions_by_time", "loop", "time_us"),
)
loops = sql.Table(
    "loops",
    metadata,
    sql.Column("loop", LOOP, primary_key=True),
    sql.Column("head", sql.String(64), nullable=False, comment="sha256 of the last decision"),
    sql.Column("state", sql.Text, nullable=False, comment="the fold, as JSON"),
    sql.Column("deleted", sql.Boolean, nullable=False, server_default=sql.false()),
)
versions = sql.Table(
    "versions",
    metadata,
    sql.Column("loop", LOOP, primary_key=True),
    sql.Column("version", sql.String(256), primary_key=True),
    sql.Column("model", sql.Text, nullable=False, comment="its description by training, as JSON"),
)
working = sql.Table(
    "working",
    metadata,
    sql.Column("loop", LOOP, primary_key=True),
    sql.Column("state", sql.Text, nullable=False, comment="evidence and counters, as JSON; no decision"),
)
FOLD = (decisions, loops, versions, working)
"""What a rebuild empties and fills again."""


def to_micros(time: datetime) -> int:
    """A column `time_us`: microseconds since the epoch, exact."""
    return (time - utc_time(0)) // timedelta(microseconds=1)
