"""The projections, the stored offsets and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table."""
    _seen_and_outcomes()
    op.create_table(
        "totals",
        sa.Column("loop", sa.String(63), primary_key=True),
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("n", sa.BigInteger, nullable=False, comment="distinct ids"),
    )
    state = "scores, baselines and detectors after the last outcome, as JSON"
    op.create_table(
        "works",
        sa.Column("loop", sa.String(63), primary_key=True),
        sa.Column("state", sa.Text, nullable=False, comment=state),
    )
    _versions_and_points()
    _happenings()
    _kernel()


def _seen_and_outcomes() -> None:
    op.create_table(
        "seen",
        sa.Column("key", sa.LargeBinary(16), primary_key=True, comment="BLAKE2b-128 of loop, kind and id"),
        sqlite_with_rowid=False,
    )
    known = "offset, label, correction and what the baselines said, as JSON"
    op.create_table(
        "outcomes",
        sa.Column("key", sa.LargeBinary(16), primary_key=True, comment="BLAKE2b-128 of loop and prediction id"),
        sa.Column("known", sa.Text, nullable=False, comment=known),
        sqlite_with_rowid=False,
    )


def _versions_and_points() -> None:
    op.create_table(
        "versions",
        sa.Column("loop", sa.String(63), primary_key=True),
        sa.Column("version", sa.String(200), primary_key=True),
        sa.Column("predicted", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Float, nullable=False, comment="sum over all it predicted"),
        sa.Column("served", sa.BigInteger, nullable=False),
        sa.Column("served_error", sa.Float, nullable=False),
        sa.Column("rolling", sa.Float, comment="mean error of its last 500"),
        sa.Column("first_time", sa.String(32), nullable=False),
        sa.Column("last_time", sa.String(32), nullable=False),
    )
    op.create_table(
        "points",
        sa.Column("loop", sa.String(63), primary_key=True),
        sa.Column("outcomes", sa.BigInteger, primary_key=True),
        sa.Column("served", sa.Float, nullable=False),
        sa.Column("no_change", sa.Float, nullable=False),
        sa.Column("majority", sa.Float, nullable=False),
        sa.Column("version", sa.String(200), nullable=False, comment="served on that outcome"),
        sa.Column("champion", sa.String(200), nullable=False),
        sa.Column("time", sa.String(32), nullable=False),
    )


def _happenings() -> None:
    time = "RFC 3339 in UTC with microseconds, so that text order is time"
    op.create_table(
        "happenings",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(256), nullable=False, unique=True),
        sa.Column("loop", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("time", sa.String(32), nullable=False, comment=time),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
    op.create_index("happenings_by_loop", "happenings", ["loop", "time"])


def _kernel() -> None:
    op.create_table(
        "stored_offsets",
        sa.Column("topic", sa.String(249), primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("topic", sa.String(249), nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop every table; all of it can be built again from the topics."""
    for name in ("outbox", "stored_offsets", "happenings", "points", "versions", "works", "totals", "outcomes", "seen"):
        op.drop_table(name)
